/**
 * Workers that leave their job in good order: because they were told to stop, because they were only lent, or because the whole job is sent
 * away. The others go on without them; the last one that has the state is saved before it goes.
 */
import { assignedTo } from './assignment.js';
import { noteLoss } from './loss.js';
import { isGoing, release } from './release.js';
import { saveBeforeLeaving } from './saving.js';
import { isTerminal, type JobRun, type Worker } from './state.js';
import { emit, logJob, type Turn } from './turn.js';

/** Whether it has the state of `worker`, or nearly, by what is known. One that has only just loaded the job, or still heals, does not. */
function isAsFar(run: JobRun, other: Worker, worker: Worker): boolean {
  if (other.healing) return false;
  const { worker: name, incarnation, engineStart, committed } = other;
  const member = run.lastRecord?.roster.find((one) => one.worker === name && one.incarnation === incarnation);
  return (member?.engineStart === engineStart && !member.heals) || committed + 1 >= worker.committed;
}

/** The daemon was told to stop: the others go on without it, and it is let go. */
export function leaving(turn: Turn, worker: Worker): void {
  if (worker.leaving) return;
  worker.leaving = true;
  const run = worker.job === undefined ? undefined : turn.state.jobs.get(worker.job);
  if (run === undefined || isTerminal(run.record.state)) return;
  noteLoss(turn, run, worker, 'drain', 'it was told to stop');
  letGo(turn, run, worker, 'it was told to stop');
}

/** The worker is taken away from its job. */
export function withdraw(turn: Turn, run: JobRun, worker: Worker, reason: string): void {
  if (isGoing(worker) || worker.unloading) return;
  emit(turn, run, { kind: 'workerReleased', worker: worker.worker, reason });
  if (worker.facts === undefined) {
    release(turn, worker, reason);
    return;
  }
  worker.withdrawn = reason;
  run.pause ??= { sinceMs: run.lastCommitMs };
  letGo(turn, run, worker, reason);
}

/** All workers of the job are taken away, the last one when the state is saved. */
export function sendAway(turn: Turn, run: JobRun, reason: string): void {
  run.sentAway = reason;
  emit(turn, run, { kind: 'jobPreempted', reason });
  logJob(turn, run, 'info', 'job preempted', { reason });
  for (const worker of assignedTo(turn.state, run.record.job)) withdraw(turn, run, worker, reason);
}

function letGo(turn: Turn, run: JobRun, worker: Worker, reason: string): void {
  const others = assignedTo(turn.state, run.record.job).some(
    (other) => other.facts !== undefined && !isGoing(other) && isAsFar(run, other, worker),
  );
  if (others || !saveBeforeLeaving(turn, run, worker)) release(turn, worker, reason);
}
