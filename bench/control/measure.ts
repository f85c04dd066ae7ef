/** One size of cluster: set up, steady state, single losses, many at once. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nanoid } from 'nanoid';
import { JobsClient } from '../../cli/jobs_client.js';
import { readJobFile } from '../../shared/job_file.js';
import type { JobEvent } from '../../shared/wire/jobs.js';
import { type Change, change, type MassChange, type Membership, massChange } from './changes.js';
import { MeasuredCoordinator } from './coordinator.js';
import { Fleets } from './fleets.js';
import type { LoopDelay } from './messages.js';
import { peakResidentMb } from './process_usage.js';
import { type Steady, steady } from './steady.js';

const WORKERS_OF_ONE_JOB = 10;
const JOBS = 10;
const SAMPLES_A_MICROBATCH = 4;
const WARM_UP_MS = 3_000;
const RUN_MS = 1_800_000;
const LOOK_MS = 50;

export interface MeasureOptions {
  readonly workers: number;
  readonly stepMs: number;
  readonly seconds: number;
  readonly changes: number;
  readonly repository: string;
  readonly profiles: string | undefined;
}

export interface Measured {
  readonly workers: number;
  readonly jobs: number;
  /** From the order to connect, job by job, to the start of the last job on its last worker. */
  readonly setUpMs: number;
  readonly steady: Steady;
  readonly changes: readonly Change[];
  /** By the coordinator's own events: from `worker_lost` to `generation_started`, of single losses. */
  readonly coordinatorMs: readonly number[];
  readonly mass: MassChange;
  /** While memberships changed. */
  readonly loopDelay: LoopDelay;
  readonly peakMb: number;
  /** Steps of all jobs together that users saw. */
  readonly steps: number;
}

/** The smallest power of two that gives every worker a microbatch. */
function microbatchesFor(workers: number): number {
  return 2 ** Math.ceil(Math.log2(workers));
}

async function writeJob(folder: string, number: number, workers: number): Promise<string> {
  await writeFile(join(folder, 'task.py'), 'import lockstep\n\n\nclass Nothing(lockstep.Task):\n    pass\n');
  const microbatches = microbatchesFor(workers);
  const path = join(folder, `job-${number}.yaml`);
  const job = {
    version: 1,
    name: 'control',
    task: 'task.py:Nothing',
    steps: 1_000_000,
    batch: microbatches * SAMPLES_A_MICROBATCH,
    microbatches,
    workers: { min: Math.max(1, Math.floor(workers / 2)), max: workers },
    where: { job: String(number) },
    data: { shuffle: false },
    checkpoint: { minutes: 0 },
  };
  await writeFile(path, JSON.stringify(job));
  return path;
}

/** What users see of the jobs, read as users read it. */
class Watched {
  readonly events: JobEvent[] = [];

  constructor(client: JobsClient, jobs: readonly string[], signal: AbortSignal) {
    for (const job of jobs) {
      this.#watch(client, job).catch((error) => {
        if (!signal.aborted) throw error;
      });
    }
  }

  async #watch(client: JobsClient, job: string): Promise<void> {
    for await (const event of client.watch(job, 1, true)) this.events.push(event);
  }

  get steps(): number {
    return this.events.filter((event) => event.kind === 'stepCommitted').length;
  }

  /** From each loss to the next generation of its job. */
  get changesMs(): readonly number[] {
    return this.events.flatMap((event, index) => {
      if (event.kind !== 'workerLost') return [];
      const next = this.events
        .slice(index)
        .find((other) => other.kind === 'generationStarted' && other.job === event.job);
      return next === undefined ? [] : [next.timeMs - event.timeMs];
    });
  }
}

async function submit(client: JobsClient, folder: string, count: number, workersAJob: number): Promise<string[]> {
  const jobs: string[] = [];
  for (let i = 0; i < count; i++) {
    const { spec, bundle } = readJobFile(await writeJob(folder, i, workersAJob));
    const output = join(folder, `model-${i}`);
    const checkpoints = join(folder, 'checkpoints');
    jobs.push(await client.submit({ operationId: nanoid(), spec, bundle, output, checkpoints }));
  }
  return jobs;
}

export async function measure(options: MeasureOptions): Promise<Measured> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-control-'));
  const ended = new AbortController();
  const timer = setTimeout(() => ended.abort(), RUN_MS);
  const coordinator = await MeasuredCoordinator.start({ ...options, folder });
  const count = options.workers <= WORKERS_OF_ONE_JOB ? 1 : JOBS;
  const workersAJob = options.workers / count;
  const fleets = new Fleets({ ...options, workersAJob, leader: coordinator.leader });
  const client = new JobsClient({ servers: [coordinator.leader.address], signal: ended.signal });
  try {
    const jobs = await submit(client, folder, count, workersAJob);
    const watched = new Watched(client, jobs, ended.signal);
    return await measureOn({ ...options, coordinator, watched, membership: { fleets, jobs, workersAJob } });
  } finally {
    clearTimeout(timer);
    ended.abort();
    client.close();
    await fleets.stop();
    await coordinator.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Running extends MeasureOptions {
  readonly coordinator: MeasuredCoordinator;
  readonly watched: Watched;
  readonly membership: Membership;
}

/** Job by job: all at once would measure how fast this machine opens connections. */
async function setUp({ workers, membership: { fleets, jobs, workersAJob } }: Running): Promise<number> {
  const beganMs = performance.now();
  const numbers = Array.from({ length: workers }, (_, worker) => worker);
  for (const [index, job] of jobs.entries()) {
    fleets.join(numbers.slice(index * workersAJob, (index + 1) * workersAJob));
    await fleets.started(job, workersAJob, 0);
  }
  return performance.now() - beganMs;
}

async function measureOn(running: Running): Promise<Measured> {
  const { workers, coordinator, watched, membership } = running;
  const { jobs, fleets } = membership;
  const setUpMs = await setUp(running);
  while (watched.steps < jobs.length) await delay(LOOK_MS);
  await delay(WARM_UP_MS);
  const quiet = await steady(coordinator, fleets, running.seconds);
  const changes: Change[] = [];
  for (let i = 0; i < running.changes; i++) {
    // A step of 7 is prime to every number of workers here, and goes through all jobs and all processes.
    changes.push(await change(membership, (7 * i) % workers));
  }
  const coordinatorMs = watched.changesMs;
  const mass = await massChange(
    membership,
    Array.from({ length: workers / 10 }, (_, i) => i * 10),
  );
  return {
    workers,
    jobs: jobs.length,
    setUpMs,
    steady: quiet,
    changes,
    coordinatorMs,
    mass,
    loopDelay: await coordinator.loopDelay(),
    peakMb: peakResidentMb(coordinator.pid),
    steps: watched.steps,
  };
}
