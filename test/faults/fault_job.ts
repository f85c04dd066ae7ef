/** The job that the tests of faults run: small, quick, and with engines that misbehave when asked. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type JobFileOnDisk, readJobFile } from '../../shared/job_file.js';
import { repository } from './repository.js';

export const MICROBATCHES = 12;
/** The part of the job after which it slows down, so as not to end before the test is done with it. */
const HELD_FROM = 0.8;

export interface FaultJobOptions {
  readonly steps: number;
  readonly class?: 'FaultTask' | 'CrashesAtStart' | 'RaisesAtStart' | 'TooLarge';
  readonly name?: string;
  /** Other keys of the job file. */
  readonly keys?: Readonly<Record<string, unknown>>;
  /**
   * A microbatch takes this long at least, and at the end of the job ten times as long, until the test lets it end.
   * With 3 workers a step has 4 microbatches in a row.
   */
  readonly microbatchMs?: number;
  readonly fault?: 'exit_0' | 'segv' | 'sleep' | 'sleep_with_gil' | 'flip_bit' | 'slow' | 'hoard';
  readonly atStep?: number;
  readonly poisoned?: number;
  /** Of the hidden layer: there are about 43 times as many parameters. */
  readonly width?: number;
}

/** Writes the job into `folder`, which is to be new. */
export function writeFaultJob(folder: string, options: FaultJobOptions): JobFileOnDisk {
  mkdirSync(folder, { recursive: true });
  const source = join(repository, 'test/faults/task/fault_task.py');
  writeFileSync(join(folder, 'task.py'), readFileSync(source));
  const { fault, atStep = 0, poisoned, microbatchMs = 8 } = options;
  const job = {
    version: 1,
    name: options.name ?? 'faults',
    task: `task.py:${options.class ?? 'FaultTask'}`,
    seed: 7,
    steps: options.steps,
    batch: 48,
    microbatches: MICROBATCHES,
    ...options.keys,
    params: {
      microbatch_ms: microbatchMs,
      hold_from: Math.floor(options.steps * HELD_FROM),
      marks: folder,
      at_step: atStep,
      width: options.width ?? 64,
      ...(poisoned === undefined ? {} : { poisoned }),
      ...(fault === undefined ? {} : { fault }),
    },
  };
  const path = join(folder, 'job.yaml');
  writeFileSync(path, JSON.stringify(job));
  return readJobFile(path);
}

/** The job goes on as fast as it can. `folder` is its bundle. */
export function hurryUp(folder: string): void {
  writeFileSync(join(folder, 'hurry'), '');
}
