/** The changes of membership that are measured: single workers vanish and join again, and many vanish at once. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Fleets } from './fleets.js';

/** Between two changes, so that each begins while the jobs make steps. */
const SETTLE_MS = 1_000;

export interface Change {
  /** From the reset of the connection to the start of the next generation on the last of its members. */
  readonly lossMs: number;
  /** Of that, until the last member was asked to prepare. */
  readonly prepareMs: number;
  /** From `loaded` of the new incarnation to the start of a generation with it on the last member. */
  readonly joinMs: number;
}

export interface MassChange {
  readonly vanished: number;
  /** From the first reset to the start of generations without any of them on the last member of the last job. */
  readonly lossMs: number;
  /** From the order to connect again to generations with all of them. Engines start and load meanwhile. */
  readonly joinMs: number;
}

export interface Membership {
  readonly fleets: Fleets;
  readonly jobs: readonly string[];
  readonly workersAJob: number;
}

function newestOf({ fleets, jobs }: Membership): ReadonlyMap<string, number> {
  return new Map(jobs.map((job) => [job, fleets.newest(job)]));
}

/** One worker, and back again. */
export async function change(membership: Membership, worker: number): Promise<Change> {
  const { fleets, workersAJob } = membership;
  await delay(SETTLE_MS);
  const before = newestOf(membership);
  const [gone] = await fleets.vanish([worker]);
  if (gone === undefined) throw new Error(`worker ${worker} did not vanish`);
  const { job, atMs } = gone;
  const without = await fleets.started(job, workersAJob - 1, before.get(job) ?? 0);
  await delay(SETTLE_MS);
  const [back] = await fleets.rejoin([worker]);
  if (back === undefined) throw new Error(`worker ${worker} did not come back`);
  const whole = await fleets.started(back.job, workersAJob, without.generation);
  return {
    lossMs: without.startedMs - atMs,
    prepareMs: without.preparedMs - atMs,
    joinMs: whole.startedMs - back.atMs,
  };
}

/** All of `workers`, whose numbers are spread over the jobs evenly. */
export async function massChange(membership: Membership, workers: readonly number[]): Promise<MassChange> {
  const { fleets, jobs, workersAJob } = membership;
  await delay(SETTLE_MS);
  const before = newestOf(membership);
  const gone = await fleets.vanish(workers);
  const lostBy = new Map(jobs.map((job) => [job, gone.filter((one) => one.job === job).length]));
  const hit = [...lostBy].filter(([, lost]) => lost > 0);
  const without = await Promise.all(
    hit.map(([job, lost]) => fleets.started(job, workersAJob - lost, before.get(job) ?? 0)),
  );
  await delay(SETTLE_MS);
  const joined = performance.now();
  await fleets.rejoin(workers);
  await Promise.all(hit.map(([job], index) => fleets.started(job, workersAJob, without[index]?.generation ?? 0)));
  return {
    vanished: workers.length,
    lossMs: Math.max(...without.map((one) => one.startedMs)) - Math.min(...gone.map((one) => one.atMs)),
    joinMs: performance.now() - joined,
  };
}
