/**
 * Which workers have which job. Kept beside the workers: most events concern one job, and must not cost a look at all workers of all
 * jobs. Only what is here changes `job` of a worker, or who is there.
 */
import type { CoordinatorState, Worker } from './state.js';

/** A worker that begins a session takes the place of the one of its name. */
export function enter(state: CoordinatorState, worker: Worker): void {
  const known = state.workers.get(worker.worker);
  if (known !== undefined) leave(state, known);
  state.workers.set(worker.worker, worker);
  place(state, worker);
}

export function leave(state: CoordinatorState, worker: Worker): void {
  state.workers.delete(worker.worker);
  displace(state, worker);
}

/** Gives the worker a job, or takes it away. */
export function move(state: CoordinatorState, worker: Worker, job: string | undefined): void {
  displace(state, worker);
  worker.job = job;
  place(state, worker);
}

export function forgetAll(state: CoordinatorState): void {
  state.workers.clear();
  state.byJob.clear();
}

/** Workers that were told to load the job, or say that they have it; of `undefined`: those that have none. */
export function assignedTo(state: CoordinatorState, job: string | undefined): readonly Worker[] {
  return [...(state.byJob.get(job) ?? [])];
}

export function countOf(state: CoordinatorState, job: string | undefined): number {
  return state.byJob.get(job)?.size ?? 0;
}

function place(state: CoordinatorState, worker: Worker): void {
  const others = state.byJob.get(worker.job);
  if (others === undefined) state.byJob.set(worker.job, new Set([worker]));
  else others.add(worker);
}

function displace(state: CoordinatorState, worker: Worker): void {
  const others = state.byJob.get(worker.job);
  others?.delete(worker);
  if (others?.size === 0) state.byJob.delete(worker.job);
}
