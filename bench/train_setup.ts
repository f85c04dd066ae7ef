/** What bench:train trains: models, batches and lengths, and the files that say so to the two peers. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type JobFileOnDisk, readJobFile } from '../shared/job_file.js';
import { splitTask } from '../shared/job_spec.js';
import { planStep } from '../shared/plan.js';
import { repository } from '../test/faults/repository.js';
import type { Format } from './formats.js';

const SEED = 1;
const SAMPLES = 8192;

export const MODELS = ['1m', '25m'] as const;
export type ModelName = (typeof MODELS)[number];

/** What DistributedDataParallel sends gradients as: float16 by its own hook. */
export const DDP_TYPES = ['float32', 'float16'] as const;

interface Model {
  readonly width: number;
  readonly layers: number;
  /** Samples of one step for each worker, so that a step of the larger model takes a third of a second or so on one core. */
  readonly batchEach: number;
  /** Measured ones. */
  readonly steps: number;
}

const models: Readonly<Record<ModelName, Model>> = {
  '1m': { width: 464, layers: 4, batchEach: 256, steps: 200 },
  '25m': { width: 2016, layers: 6, batchEach: 128, steps: 30 },
};

export interface TrainSetup {
  readonly model: ModelName;
  readonly workers: number;
  readonly format: Format;
  /** Steps before the measured ones: they fill caches and map memory, on both sides. */
  readonly warmUp: number;
  /** Measured steps; undefined: as many as are good for the model. */
  readonly steps: number | undefined;
  readonly ddpType: (typeof DDP_TYPES)[number];
}

export function measuredSteps({ model, steps }: TrainSetup): number {
  return steps ?? models[model].steps;
}

/** Samples of one step over all workers. */
export function batchOf({ model, workers }: TrainSetup): number {
  return models[model].batchEach * workers;
}

/** Writes the job into `folder`, which is to be new. */
export function writeJob(folder: string, setup: TrainSetup): JobFileOnDisk {
  const { model, workers, format, warmUp } = setup;
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(repository, 'bench/train_task.py'), join(folder, 'train_task.py'));
  const { width, layers } = models[model];
  const job = {
    version: 1,
    name: `train-${model}`,
    task: 'train_task.py:Dense',
    seed: SEED,
    steps: warmUp + measuredSteps(setup),
    batch: batchOf(setup),
    microbatches: workers,
    workers: { min: workers, max: workers },
    threads: 1,
    checkpoint: { every: 0, minutes: 0 },
    exchange: format,
    params: { width, layers, samples: SAMPLES },
  };
  const path = join(folder, 'job.yaml');
  writeFileSync(path, JSON.stringify(job));
  return readJobFile(path);
}

/** Writes what ddp_train.py has to know: the same samples, microbatch by microbatch, one a rank. */
export function writePlan(path: string, { spec, bundle }: JobFileOnDisk, setup: TrainSetup): void {
  const { file, className } = splitTask(spec.task);
  const shape = { ...spec, datasetLength: SAMPLES };
  const plan = {
    file: join(bundle, file),
    class: className,
    params: JSON.parse(spec.paramsJson),
    seed: spec.seed,
    ddp_type: setup.ddpType,
    steps: Array.from({ length: spec.steps ?? 0 }, (_, step) => planStep(shape, step).samples),
  };
  writeFileSync(path, JSON.stringify(plan));
}

export interface TrainRun {
  readonly stepsPerSecond: number;
  /** Of the last step. */
  readonly loss: number;
}

/** From when each step was done, milliseconds, in order. */
export function runOf(timesMs: readonly number[], loss: number, setup: TrainSetup): TrainRun {
  const steps = measuredSteps(setup);
  const [first, last] = [timesMs[setup.warmUp - 1], timesMs[setup.warmUp + steps - 1]];
  if (first === undefined || last === undefined || timesMs.length !== setup.warmUp + steps) {
    throw new Error(`${timesMs.length} steps were done instead of ${setup.warmUp + steps}`);
  }
  return { stepsPerSecond: (steps * 1000) / (last - first), loss };
}
