/**
 * `test/gpu/run.sh`: trains test/gpu/job.yaml with 1, 2 and 4 workers whose engines share one GPU, with each format of exchange, and
 * compares the weights. Exit status: 0 if they are the same, 1 if not or when a job failed, 2 if the machine
 * lacks something or an option is wrong.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { nanoid } from 'nanoid';
import { CliError, exitCodes } from '../../cli/exit_codes.js';
import { JobsClient } from '../../cli/jobs_client.js';
import { LocalCluster } from '../../cli/local_cluster.js';
import { readJobFile } from '../../shared/job_file.js';
import { medianOf } from '../../shared/median.js';
import type { JobEvent, JobSpec } from '../../shared/wire/jobs.js';
import { findMachine, type Machine } from './requirements.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const EXCHANGES = ['fp32', 'bf16'] as const;
/** The first steps choose kernels, take memory and pin it. */
const WARM_UP = 5;
const RUN_MS = 600_000;
/** On a CPU it is the check itself that is checked. */
const SMALL = { block: 16, width: 32, layers: 1, heads: 2, dropout: 0.1 };

interface Options {
  readonly cpu: boolean;
  readonly json: boolean;
  readonly steps: number | undefined;
  readonly workers: readonly number[];
}

interface Run {
  readonly exchange: JobSpec['exchange'];
  readonly workers: number;
  readonly weightsDigest: string;
  /** What each engine computed on, as the coordinator shows it. */
  readonly engines: readonly string[];
  readonly stepsPerSecond: number;
  /** Medians of a step, milliseconds. */
  readonly dataMs: number;
  readonly computeMs: number;
  readonly reduceMs: number;
  readonly gatherMs: number;
  readonly applyMs: number;
}

type StepCommitted = Extract<JobEvent, { kind: 'stepCommitted' }>;

function parsedArguments() {
  try {
    return parseArgs({
      options: {
        cpu: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        steps: { type: 'string' },
        workers: { type: 'string', default: '1,2,4' },
      },
    });
  } catch (error) {
    throw new CliError(exitCodes.usage, error instanceof Error ? error.message : String(error));
  }
}

function readOptions(): Options {
  const { values } = parsedArguments();
  const count = (text: string): number => {
    if (!/^[1-9]\d{0,3}$/.test(text)) throw new CliError(exitCodes.usage, `${text} is not a number from 1 to 9999`);
    return Number(text);
  };
  const steps = values.steps === undefined ? undefined : count(values.steps);
  return { cpu: values.cpu, json: values.json, steps, workers: values.workers.split(',').map(count) };
}

class Check {
  readonly runs: Run[] = [];
  readonly #job = readJobFile(join(repository, 'test/gpu/job.yaml'));

  constructor(
    private readonly folder: string,
    private readonly options: Options,
    private readonly machine: Machine,
    private readonly signal: AbortSignal,
  ) {}

  async run(): Promise<void> {
    const { python, environment } = this.machine;
    const workers = Math.max(...this.options.workers);
    const folder = join(this.folder, 'cluster');
    const cluster = new LocalCluster({ folder, workers, coordinators: 1, repository, python, environment });
    try {
      await cluster.start(this.signal);
      for (const exchange of EXCHANGES) {
        for (const count of this.options.workers) this.runs.push(await this.#train(cluster, exchange, count));
      }
    } finally {
      await cluster.stop();
    }
  }

  /** A strict job: its engines compute the same bits, or it would not start. */
  #spec(exchange: Run['exchange'], workers: number): JobSpec {
    const { spec } = this.#job;
    const steps = this.options.steps ?? spec.steps;
    const paramsJson = this.options.cpu ? JSON.stringify(SMALL) : spec.paramsJson;
    return { ...spec, exchange, workersMin: workers, workersMax: workers, steps, paramsJson };
  }

  async #train(cluster: LocalCluster, exchange: Run['exchange'], workers: number): Promise<Run> {
    const signal = AbortSignal.any([this.signal, AbortSignal.timeout(RUN_MS)]);
    const client = new JobsClient({ servers: cluster.servers, signal });
    const name = join(this.folder, `${exchange}-${workers}`);
    try {
      const job = await client.submit({
        operationId: nanoid(),
        spec: this.#spec(exchange, workers),
        bundle: this.#job.bundle,
        output: `${name}-model`,
        checkpoints: `${name}-checkpoints`,
      });
      const steps: StepCommitted[] = [];
      const timesMs: number[] = [];
      let engines: readonly string[] = [];
      for await (const event of client.watch(job, 1, true)) {
        if (event.kind === 'jobFinished') {
          if (event.state !== 'finished') throw new Error(`${exchange}, ${workers} workers: ${event.reason}`);
          return { exchange, workers, engines, weightsDigest: event.weightsDigest, ...speeds(steps, timesMs) };
        }
        if (event.kind !== 'stepCommitted') continue;
        timesMs.push(performance.now());
        steps.push(event);
        if (steps.length > 1) continue;
        engines = (await client.nodes()).filter((node) => node.job === job).map((node) => node.engine);
      }
      throw new Error(`${exchange}, ${workers} workers: the events ended before the job`);
    } finally {
      client.close();
    }
  }
}

function speeds(steps: readonly StepCommitted[], timesMs: readonly number[]) {
  const skip = Math.min(WARM_UP, Math.floor(steps.length / 2));
  const measured = steps.slice(skip);
  const times = timesMs.slice(skip);
  const median = (of: (step: StepCommitted) => number): number => rounded(medianOf(measured.map(of)));
  return {
    stepsPerSecond: rounded(((times.length - 1) * 1000) / ((times.at(-1) ?? 0) - (times[0] ?? 0)) || 0),
    dataMs: median((step) => step.dataMs ?? 0),
    computeMs: median((step) => step.computeMs),
    reduceMs: median((step) => step.reduceMs),
    gatherMs: median((step) => step.gatherMs ?? 0),
    applyMs: median((step) => step.applyMs),
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

/** One line for everything that is not as it must be. */
function problemsOf(runs: readonly Run[], cpu: boolean): readonly string[] {
  const kind = cpu ? 'cpu' : 'cuda';
  const wrongDevice = runs
    .filter(
      ({ engines, workers }) => engines.length !== workers || !engines.every((engine) => engine.endsWith(` ${kind}`)),
    )
    .map(
      ({ exchange, workers, engines }) =>
        `${exchange}, ${workers} workers: the engines were ${engines.join(', ') || 'not seen'}`,
    );
  const differing = EXCHANGES.filter((exchange) => {
    const digests = new Set(runs.filter((run) => run.exchange === exchange).map((run) => run.weightsDigest));
    return digests.size !== 1 || digests.has('');
  });
  return [...wrongDevice, ...differing.map((exchange) => `${exchange}: the weights depend on the number of workers`)];
}

function report(runs: readonly Run[], { device, torch, cuda }: Machine, { cpu, json }: Options): boolean {
  const problems = problemsOf(runs, cpu);
  if (json) {
    for (const { exchange, workers, weightsDigest, engines, ...run } of runs) {
      const { stepsPerSecond, dataMs, computeMs, reduceMs, gatherMs, applyMs } = run;
      const exchanged = { reduce_ms: reduceMs, gather_ms: gatherMs };
      const parts = { data_ms: dataMs, compute_ms: computeMs, ...exchanged, apply_ms: applyMs };
      const speed = { steps_per_second: stepsPerSecond, ...parts };
      say(JSON.stringify({ event: 'gpu_run', exchange, workers, weights_digest: weightsDigest, engines, ...speed }));
    }
    say(JSON.stringify({ event: 'gpu_check', device, torch, cuda, same: problems.length === 0, problems }));
    return problems.length === 0;
  }
  const table = new Table({
    head: ['exchange', 'workers', 'steps/s', 'data ms', 'compute ms', 'reduce ms', 'gather ms', 'apply ms', 'weights'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right', 'left'],
  });
  for (const run of runs) {
    const parts = [run.dataMs, run.computeMs, run.reduceMs, run.gatherMs, run.applyMs];
    const numbers = [run.stepsPerSecond, ...parts].map((value) => value.toFixed(2));
    table.push([run.exchange, run.workers, ...numbers, run.weightsDigest.slice(0, 16)]);
  }
  say(
    `${device}, PyTorch ${torch}${cuda === undefined ? '' : `, CUDA ${cuda}`}; all engines on it. Medians of a step.`,
  );
  say(table.toString());
  for (const problem of problems) say(problem);
  if (problems.length === 0) say('the same weights, bit for bit, with every number of workers');
  return problems.length === 0;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

const ended = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort());
const folder = await mkdtemp(join(tmpdir(), 'lockstep-gpu-'));
try {
  const options = readOptions();
  const machine = await findMachine(repository, options.cpu);
  const check = new Check(folder, options, machine, ended.signal);
  await check.run();
  process.exitCode = report(check.runs, machine, options) ? 0 : 1;
} catch (error) {
  process.stderr.write(`test/gpu/run.sh: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof CliError ? error.exitCode : 1;
} finally {
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
}
