/** Workers get a job, and lose it. */
import { move } from './assignment.js';
import { interruptMeasuring } from './preflights.js';
import type { JobRun, Worker } from './state.js';
import { send, type Turn } from './turn.js';

/** Their names are stored with each generation, whose record has a bound. */
export const MOST_ATTEMPTS_KEPT = 4_096;

export function assign(turn: Turn, run: JobRun, worker: Worker): void {
  const { job, spec, bundle, output } = run.record;
  interruptMeasuring(worker);
  move(turn.state, worker, job);
  worker.facts = undefined;
  worker.holding = undefined;
  const attempt = countAttempt(turn, run, worker.worker);
  send(turn, worker, { kind: 'load', job, spec, bundle, output, attempt });
}

/** The workers that had the job first, and do not have it now, are forgotten first. */
function countAttempt({ state }: Turn, { attempts, record }: JobRun, name: string): number {
  const attempt = (attempts.get(name) ?? 0) + 1;
  attempts.delete(name);
  attempts.set(name, attempt);
  for (const known of attempts.keys()) {
    if (attempts.size <= MOST_ATTEMPTS_KEPT) break;
    if (state.workers.get(known)?.job !== record.job) attempts.delete(known);
  }
  return attempt;
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
