/** Workers get a job, and lose it. */
import { move } from './assignment.js';
import { interruptMeasuring } from './preflights.js';
import type { JobRun, Worker } from './state.js';
import { send, type Turn } from './turn.js';

export function assign(turn: Turn, run: JobRun, worker: Worker): void {
  const { job, spec, bundle, output } = run.record;
  interruptMeasuring(worker);
  move(turn.state, worker, job);
  worker.facts = undefined;
  worker.holding = undefined;
  const attempt = (run.attempts.get(worker.worker) ?? 0) + 1;
  run.attempts.set(worker.worker, attempt);
  send(turn, worker, { kind: 'load', job, spec, bundle, output, attempt });
}

/** It leaves its job in good order, see departure.ts. */
export function isGoing({ leaving, withdrawn }: Worker): boolean {
  return leaving || withdrawn !== undefined;
}

/** Takes a worker away from its job. It is idle once it says that it has unloaded. */
export function release(turn: Turn, worker: Worker, reason: string): void {
  if (worker.job === undefined) return;
  send(turn, worker, { kind: 'unload', job: worker.job, reason });
  worker.unloading = true;
  worker.facts = undefined;
}
