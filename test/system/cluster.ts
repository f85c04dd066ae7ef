/** One `lockstep up` for several jobs of a test. */
import { z } from 'zod';
import { Lockstep, runToEnd } from './run_lockstep.js';

const MAX_TRIES = 5;

const submitted = z.object({ event: z.literal('submitted'), job: z.string(), output: z.string() });

export interface Cluster {
  readonly lockstep: Lockstep;
  /** host:port of the coordinator. */
  readonly api: string;
  /** URL of its dashboard. */
  readonly dashboard: string;
  /** Processes of c1, c2 and so on. */
  readonly coordinators: readonly number[];
  /** Process of each worker daemon. */
  readonly workers: ReadonlyMap<string, number>;
}

export async function startCluster(workers: number, options: readonly string[] = []): Promise<Cluster> {
  const lockstep = new Lockstep(['up', '--workers', String(workers), '--dir', '{folder}/run', '--json', ...options]);
  try {
    const { api, dashboard, pids } = await lockstep.ready();
    return {
      lockstep,
      api,
      dashboard,
      coordinators: pids.coordinators,
      workers: new Map(Object.entries(pids.workers)),
    };
  } catch (error) {
    await lockstep.close();
    throw error;
  }
}

/** Submits a job and returns its id. */
export async function submit({ api, lockstep }: Cluster, job: string, name: string): Promise<string> {
  const output = `${lockstep.folder}/models/${name}`;
  for (let tries = 1; ; tries++) {
    const { end } = await runToEnd(['submit', job, '--output', output, '--json', '--server', api]);
    if (end.code === 0) return submitted.parse(JSON.parse(end.stdout)).job;
    // On a machine with too much to do a coordinator loses its lease, and is elected again.
    const again = end.stderr.includes('no coordinator leads') && tries < MAX_TRIES;
    if (!again) throw new Error(`submit ended with ${end.code}: ${end.stderr}`);
  }
}

/** `lockstep watch --json` to the job's end. */
export async function watchToEnd({ api }: Cluster, job: string) {
  const { end, lockstep } = await runToEnd(['watch', job, '--json', '--server', api]);
  return { end, finished: lockstep.finished(), steps: lockstep.steps() };
}
