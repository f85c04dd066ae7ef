/** The pipe between a daemon and its engine: bytes to the daemon's reader and core here, and jobs whose engines are hostile in the cluster. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { readJobFile } from '../../shared/job_file.js';
import { parseEngineEvent } from '../../worker/io/engine_events.js';
import { readLines } from '../../worker/io/lines.js';
import type { FaultCluster } from '../faults/fault_cluster.js';
import { repository } from '../faults/repository.js';
import { LoneWorker } from '../worker/core/lone_worker.js';
import { engineBytes } from './engine_lines.js';

/** Engines of a job that crash before it fails, and one more. */
const ACTS = 6;
const END_MS = 180_000;
const LINE_LENGTH = 4096;
const MEMORY = { vectorBytes: 16 * 1024 * 1024, bf16Bytes: 0 };

/** Through what a daemon does with what comes. What that throws, but for a line that is not understood, ends the process. */
export async function hearEngine(bytes: Buffer, isComputing: boolean): Promise<void> {
  const worker = new LoneWorker();
  if (isComputing) {
    worker.load(MEMORY);
    worker.begin(1);
  } else worker.start();
  const pipe = new PassThrough();
  readLines(pipe, LINE_LENGTH, (line) => {
    const event = understood(line);
    if (event !== undefined) worker.engine(event);
  });
  const ended = new Promise((resolve) => pipe.once('close', resolve));
  pipe.end(bytes);
  await ended;
}

function understood(line: string) {
  try {
    return parseEngineEvent(line).event;
  } catch {
    return undefined;
  }
}

const act = fc.record({
  when: fc.constantFrom('model', 'model', 'loss', 'loss', 'evaluate'),
  how: fc.constantFrom('write', 'write', 'write', 'bytes', 'flood', 'exit', 'close', 'cut'),
  hex: engineBytes.map((bytes) => bytes.toString('hex')),
});

/** One after the other, each on a worker that the job that trains does not have. */
export class HostileEngines {
  #over = false;
  #failure: unknown;
  #running: Promise<void> | undefined;
  /** Jobs that have ended, and the engines that they had. */
  jobs = 0;
  engines = 0;

  constructor(private readonly cluster: FaultCluster) {}

  begin(seed: number): void {
    this.#running = this.#run(seed).catch((error: unknown) => {
      this.#failure = error;
    });
  }

  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async end(): Promise<void> {
    this.#over = true;
    await this.#running;
    this.check();
  }

  async #run(firstSeed: number): Promise<void> {
    for (let seed = firstSeed; !this.#over; seed++) await this.#oneJob(seed);
  }

  async #oneJob(seed: number): Promise<void> {
    const folder = join(this.cluster.folder, `hostile-${seed}`);
    mkdirSync(folder);
    writeFileSync(join(folder, 'task.py'), readFileSync(join(repository, 'test/fuzz/task/hostile_task.py')));
    const plan = join(folder, 'plan.json');
    writeFileSync(plan, JSON.stringify(fc.sample(act, { seed, numRuns: ACTS })));
    const params = { plan, marks: folder };
    const shape = { steps: 3, batch: 4, microbatches: 2, workers: { min: 1, max: 1 } };
    const spec = { version: 1, name: 'hostile', task: 'task.py:Hostile', ...shape, params };
    writeFileSync(join(folder, 'job.yaml'), JSON.stringify(spec));
    const job = await this.cluster.submitFile(readJobFile(join(folder, 'job.yaml')));
    const { state, reason } = await job.untilEnd(END_MS);
    const isClear = state === 'finished' || (state === 'failed' && reason !== '');
    if (!isClear) throw new Error(`the job of hostile engines ${seed} is ${state}: ${reason}\n${job.story()}`);
    this.jobs += 1;
    this.engines += Array.from({ length: ACTS }, (_, number) => join(folder, `taken-${number}`)).filter(
      existsSync,
    ).length;
  }
}
