/** What is measured on: a whole cluster that trains, and beside it the source of events with its jobs. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nanoid } from 'nanoid';
import { JobsClient } from '../../cli/jobs_client.js';
import { LocalCluster } from '../../cli/local_cluster.js';
import type { ReadyCluster } from '../../cli/output/output.js';
import { readJobFile } from '../../shared/job_file.js';
import { repository } from '../../test/faults/repository.js';
import { until } from '../../test/faults/until.js';
import { WatchedJob } from '../../test/faults/watched_job.js';
import type { CleanUp } from '../clean_up.js';
import { chosenPython } from '../python.js';
import { Beside } from './beside.js';
import type { SourceOrder } from './messages.js';
import { scrape } from './scrape.js';

const START_MS = 120_000;
const FIRST_STEPS = 5;
/** Steps a second of a source's job, until all of them have begun. */
const FIRST_RATE = 10;
/** Longer than any run. */
const STEPS = 1_000_000_000;

export interface GroundOptions {
  readonly workers: number;
  readonly microbatchMs: number;
  readonly sourceJobs: number;
}

export interface Ground {
  readonly ready: ReadyCluster;
  readonly training: WatchedJob;
  readonly source: Beside<SourceOrder>;
  readonly sourceJobs: readonly string[];
}

const LASTING = { version: 1, steps: STEPS, checkpoint: { every: 0, minutes: 0 } };

function trainingJob({ workers, microbatchMs }: GroundOptions) {
  return {
    ...LASTING,
    name: 'training',
    task: 'chaos_paced.py:Paced',
    batch: 4 * workers,
    microbatches: workers,
    workers: { min: workers, max: workers },
    params: { microbatch_ms: microbatchMs },
  };
}

function sourceJob(number: number) {
  return {
    ...LASTING,
    name: `source-${number}`,
    task: 'chaos_paced.py:Paced',
    batch: 1,
    microbatches: 1,
    data: { shuffle: false },
    where: { source: String(number) },
  };
}

class Submitter {
  readonly client: JobsClient;
  readonly #folder: string;

  constructor(folder: string, servers: readonly string[], signal: AbortSignal) {
    this.#folder = folder;
    this.client = new JobsClient({ servers, signal });
  }

  async submit(job: { readonly name: string }): Promise<string> {
    const folder = join(this.#folder, job.name);
    mkdirSync(folder);
    copyFileSync(join(repository, 'bench/chaos_paced.py'), join(folder, 'chaos_paced.py'));
    const path = join(folder, 'job.yaml');
    writeFileSync(path, JSON.stringify(job));
    const { spec, bundle } = readJobFile(path);
    const [output, checkpoints] = [join(folder, 'model'), join(folder, 'checkpoints')];
    return this.client.submit({ operationId: nanoid(), spec, bundle, output, checkpoints });
  }
}

async function startCluster(
  folder: string,
  { workers }: GroundOptions,
  cleanUp: CleanUp,
): Promise<{ readonly cluster: LocalCluster; readonly ready: ReadyCluster }> {
  const cluster = new LocalCluster({
    folder: join(folder, 'cluster'),
    workers,
    coordinators: 1,
    repository,
    python: chosenPython(),
    environment: { ...process.env, CUDA_VISIBLE_DEVICES: '' },
  });
  cleanUp.add(() => cluster.stop());
  return { cluster, ready: await cluster.start(AbortSignal.timeout(START_MS)) };
}

export async function openGround(options: GroundOptions, cleanUp: CleanUp): Promise<Ground> {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-dashboard-'));
  cleanUp.add(() => rmSync(folder, { recursive: true, force: true }));
  const { cluster, ready } = await startCluster(folder, options, cleanUp);
  const ended = new AbortController();
  const submitter = new Submitter(folder, cluster.servers, ended.signal);
  cleanUp.add(() => {
    ended.abort();
    submitter.client.close();
  });
  // The training's workers are taken before the source's come.
  const job = await submitter.submit(trainingJob(options));
  const training = new WatchedJob(submitter.client, job, folder);
  await training.untilCommitted(FIRST_STEPS, START_MS);
  return { ready, training, ...(await openSource(options, ready, submitter, cleanUp)) };
}

/** Resolves when all of its jobs make steps. */
async function openSource(
  { sourceJobs: count }: GroundOptions,
  ready: ReadyCluster,
  submitter: Submitter,
  cleanUp: CleanUp,
): Promise<Pick<Ground, 'source' | 'sourceJobs'>> {
  const sourceJobs: string[] = [];
  while (sourceJobs.length < count) sourceJobs.push(await submitter.submit(sourceJob(sourceJobs.length)));
  const source = new Beside<SourceOrder>('source');
  cleanUp.add(() => source.stop());
  const { term } = await scrape(ready.dashboard);
  source.tell({ kind: 'join', workers: count, address: ready.api, term });
  source.tell({ kind: 'rate', stepsPerSecond: FIRST_RATE * count });
  for (const job of sourceJobs) {
    const look = async () => (await submitter.client.get(job)).committed > 0;
    await until(look, { limitMs: START_MS, what: `the first step of job ${job}`, everyMs: 100 });
  }
  return { source, sourceJobs };
}
