/** One `bin/lockstep run`, and all that it tells and leaves. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type End, Lockstep, type StepEvent } from './run_lockstep.js';

export interface TrainOptions {
  readonly job: string;
  readonly workers: number;
  readonly steps?: number;
  /** More options of `run`. */
  readonly options?: readonly string[];
  /** What the test does while the job trains. */
  readonly during?: (lockstep: Lockstep) => Promise<void>;
}

export interface Trained {
  readonly end: End;
  readonly finished: ReturnType<Lockstep['finished']>;
  readonly steps: readonly StepEvent[];
  readonly events: Lockstep['events'];
  /** model.safetensors */
  readonly file: Buffer<ArrayBuffer>;
  readonly fileSha256: string;
  /** model.json */
  readonly description: unknown;
  /** What is still on the machine after the end. */
  readonly left: readonly string[];
}

export async function train({ job, workers, steps, options = [], during }: TrainOptions): Promise<Trained> {
  const length = steps === undefined ? [] : ['--steps', String(steps)];
  const lockstep = new Lockstep([
    'run',
    job,
    '--workers',
    String(workers),
    ...length,
    ...options,
    '--dir',
    '{folder}/run',
    '--json',
  ]);
  try {
    await lockstep.ready();
    await during?.(lockstep);
    const end = await lockstep.end();
    if (end.code !== 0) throw new Error(`lockstep run ended with ${end.code}: ${end.stdout.slice(-3000)}${end.stderr}`);
    const left = await lockstep.left();
    const model = join(lockstep.folder, 'run', 'model');
    const file = readFileSync(join(model, 'model.safetensors'));
    return {
      end,
      finished: lockstep.finished(),
      steps: lockstep.steps(),
      events: lockstep.events,
      file,
      fileSha256: createHash('sha256').update(file).digest('hex'),
      description: JSON.parse(readFileSync(join(model, 'model.json'), 'utf8')),
      left,
    };
  } finally {
    await lockstep.close();
  }
}
