/**
 * `npm run bench:soak`: a local cluster under full load for 10,000 steps. Prints what memory each worker daemon has from tenth to tenth of the
 * job, and how late its main loop was.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { Command } from 'commander';
import { nanoid } from 'nanoid';
import { JobsClient } from '../cli/jobs_client.js';
import { LocalCluster } from '../cli/local_cluster.js';
import { readJobFile } from '../shared/job_file.js';
import { medianOf } from '../shared/median.js';
import { chosenPython } from './python.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const START_MS = 120_000;
const SAMPLE_MS = 1000;
const PARTS = 10;

interface Options {
  readonly workers: number;
  readonly steps: number;
  readonly separateHosts?: boolean;
}

/** One look at one worker daemon. */
interface Sample {
  readonly worker: string;
  readonly step: number;
  readonly rssMiB: number;
  /** Of it: what is not mapped from memory files, which are as long as the model makes them. */
  readonly anonymousMiB: number;
  readonly loopDelayMs: number;
}

async function memoryOf(pid: number): Promise<{ readonly rssMiB: number; readonly anonymousMiB: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1');
  const of = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) / 1024;
  return { rssMiB: of('VmRSS'), anonymousMiB: of('RssAnon') };
}

async function sampled(client: JobsClient): Promise<readonly Sample[]> {
  const nodes = await client.nodes();
  return Promise.all(
    nodes.map(async ({ worker, pid, committed, loopDelayMs }) => {
      return { worker, step: committed, loopDelayMs, ...(await memoryOf(pid)) };
    }),
  );
}

interface Outcome {
  readonly samples: readonly Sample[];
  readonly seconds: number;
}

async function soak(cluster: LocalCluster, folder: string, steps: number): Promise<Outcome> {
  const client = new JobsClient({ servers: cluster.servers, signal: AbortSignal.timeout(START_MS + steps * 1000) });
  try {
    const { spec, bundle } = readJobFile(join(repository, 'bench/soak_task.yaml'));
    const output = join(folder, 'model');
    const checkpoints = join(folder, 'checkpoints');
    const given = { ...spec, steps, checkpointEvery: 0, checkpointMinutes: 0 };
    const job = await client.submit({ operationId: nanoid(), spec: given, bundle, output, checkpoints });
    const samples: Sample[] = [];
    let firstMs = 0;
    for (;;) {
      const { state, committed, reason } = await client.get(job);
      if (state === 'failed' || state === 'cancelled') throw new Error(`the job ended as ${state}: ${reason}`);
      if (state === 'finished') return { samples, seconds: (performance.now() - firstMs) / 1000 };
      if (committed > 0) {
        firstMs ||= performance.now();
        samples.push(...(await sampled(client)));
      }
      await delay(SAMPLE_MS);
    }
  } finally {
    client.close();
  }
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

function report({ samples, seconds }: Outcome, { steps, workers }: Options): void {
  const parts = Array.from({ length: PARTS }, (_, part) =>
    samples.filter(({ step }) => Math.min(PARTS - 1, Math.floor((step / steps) * PARTS)) === part),
  );
  const median = (of: readonly Sample[], value: (sample: Sample) => number): number =>
    Math.round(medianOf(of.map(value)) * 10) / 10;
  const table = new Table({
    head: ['steps to', 'RSS MiB', 'of it anonymous', 'main loop late ms'],
    colAligns: ['right', 'right', 'right', 'right'],
  });
  const rows = parts.map((of, part) => ({
    steps_to: ((part + 1) * steps) / PARTS,
    rss_mib: median(of, ({ rssMiB }) => rssMiB),
    anonymous_mib: median(of, ({ anonymousMiB }) => anonymousMiB),
    loop_delay_ms: median(of, ({ loopDelayMs }) => loopDelayMs),
  }));
  for (const row of rows) table.push(Object.values(row).map(String));
  const delays = samples.map(({ loopDelayMs }) => loopDelayMs);
  const growth = (rows.at(-1)?.anonymous_mib ?? 0) / (rows[1]?.anonymous_mib ?? 1);
  const late = { median_ms: percentile(delays, 0.5), p99_ms: percentile(delays, 0.99) };
  process.stdout.write(
    `${steps} steps, ${workers} workers, ${(steps / seconds).toFixed(1)} steps/s, ${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}\n` +
      `${table.toString()}\n` +
      `anonymous memory, last tenth to second: ${growth.toFixed(3)}; each second's 99th percentile of the main loop's delay: ` +
      `median ${late.median_ms.toFixed(1)} ms, 99th percentile ${late.p99_ms.toFixed(1)} ms\n`,
  );
  process.stdout.write(`${JSON.stringify({ event: 'soak_benchmark', steps, workers, growth, late, rows })}\n`);
}

const command = new Command('bench:soak')
  .option('--workers <n>', 'workers', Number, 2)
  .option('--steps <n>', 'length of the job', Number, 10_000)
  .option('--separate-hosts', 'exchange over gRPC instead of shared memory');
const options = command.parse().opts<Options>();
const folder = await mkdtemp(join(tmpdir(), 'lockstep-soak-'));
const cluster = new LocalCluster({
  folder: join(folder, 'cluster'),
  workers: options.workers,
  coordinators: 1,
  separateHosts: options.separateHosts === true,
  repository,
  python: chosenPython(),
  environment: process.env,
});
try {
  await cluster.start(AbortSignal.timeout(START_MS));
  report(await soak(cluster, folder, options.steps), options);
} finally {
  await cluster.stop();
  await rm(folder, { recursive: true, force: true });
}
