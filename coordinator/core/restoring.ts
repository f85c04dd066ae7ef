/**
 * When no worker has the state, the newest checkpoint that is whole is restored: a generation all of whose members heal from storage.
 * A job that is restored again and again without getting further waits longer each time, and fails in the end.
 */
import type { WorkerMessage } from '../../shared/wire/session.js';
import { endJob } from './ending.js';
import type { CheckpointRecord, GenerationRecord, JobRun, Progress, Worker } from './state.js';
import { emit, logJob, type Turn, write } from './turn.js';

const FREE_RESTORES = 2;
const FIRST_WAIT_MS = 1_000;
const MAX_WAIT_MS = 60_000;

/** Reports of steps can be lost with everybody who had them; what they added up to is in the checkpoint. */
function progressAt(run: JobRun, checkpoint: CheckpointRecord): Progress {
  const { progress } = run.record;
  return checkpoint.progress.committed > progress.committed ? checkpoint.progress : progress;
}

/** Counts the restore that is about to begin. False if it may not begin now. */
export function mayRestore(turn: Turn, run: JobRun, checkpoint: CheckpointRecord): boolean {
  if (turn.nowMs < run.restoreNotBeforeMs) {
    run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
    return false;
  }
  const { restores, spec } = run.record;
  const progress = progressAt(run, checkpoint);
  const further = progress.committed > restores.committed;
  const count = further ? 1 : restores.count + 1;
  if (count > spec.maxRestores) {
    const reason = `it was restored ${restores.count} times from step ${checkpoint.committed} on without getting past step ${restores.committed}`;
    endJob(turn, run, 'failed', reason, '');
    return false;
  }
  run.record = { ...run.record, progress, restores: { count, committed: progress.committed } };
  const surplus = count - FREE_RESTORES;
  if (surplus > 0) run.restoreNotBeforeMs = turn.nowMs + Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** (surplus - 1));
  return true;
}

/** What the members of a generation restore of which another leader knew; all of them heal then. */
export function restoredBy(run: JobRun, { roster, committed }: GenerationRecord): CheckpointRecord | undefined {
  if (!roster.every(({ heals }) => heals)) return undefined;
  return run.checkpoints.findLast((one) => one.committed === committed && one.damage === '');
}

/** A worker could not restore what it was started with: an older checkpoint is tried, or the same again if only the storage failed. */
export function restoreFailed(
  turn: Turn,
  run: JobRun,
  worker: Worker,
  message: Extract<WorkerMessage, { kind: 'restoreFailed' }>,
): void {
  // A new leader hears it before it has adopted the generation, or after.
  const { kind } = run.formation;
  if ((kind !== 'started' && kind !== 'adopting') || run.lastRecord?.generation !== message.generation) return;
  const refused = run.checkpoints.find((one) => one.path === message.path);
  if (refused === undefined) return;
  const reason = `${worker.worker}: ${message.reason}`;
  const { path, committed } = refused;
  logJob(turn, run, 'error', 'a checkpoint cannot be restored', { worker: worker.worker, path, reason });
  emit(turn, run, { kind: 'checkpointRefused', step: committed, path, reason, damaged: message.damaged });
  if (message.damaged) {
    run.checkpoints = run.checkpoints.map((one) => (one.path === path ? { ...one, damage: reason } : one));
    write(turn, { kind: 'checkpoints', job: run.record.job, committed: undefined });
    // An older one is tried at once, and the list of them has an end.
    const { restores } = run.record;
    run.record = { ...run.record, restores: { ...restores, count: Math.max(0, restores.count - 1) } };
    run.restoreNotBeforeMs = 0;
  }
  run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
}
