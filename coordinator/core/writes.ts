/** What follows when etcd has a write, has refused it, or could not be reached. */
import { announceEnd } from './ending.js';
import { reconcile, startRecorded } from './formation.js';
import { submitFailed, submitStored } from './jobs.js';
import { nodeStored } from './nodes.js';
import { progressStored } from './progress.js';
import { abandonSaving, checkpointStored } from './saving.js';
import type { Pending } from './state.js';
import { attempt, log, type Turn } from './turn.js';

const RETRY_MS = 1_000;

export function writeStored(turn: Turn, operation: string): void {
  const entry = turn.state.writes.get(operation);
  if (entry === undefined) return;
  turn.state.writes.delete(operation);
  proceed(turn, entry.pending);
}

function proceed(turn: Turn, pending: Pending): void {
  if (pending.kind === 'submit') {
    submitStored(turn, pending);
    return;
  }
  if (pending.kind === 'node') {
    nodeStored(turn, pending);
    return;
  }
  if (pending.kind === 'accounts') return;
  const run = turn.state.jobs.get(pending.job);
  if (run === undefined) return;
  switch (pending.kind) {
    case 'generation':
      startRecorded(turn, run, pending.record.generation);
      reconcile(turn, run);
      break;
    case 'end':
      run.cancelRequests.push(...abandonSaving(turn, run));
      announceEnd(turn, run, pending.record);
      break;
    case 'progress':
      progressStored(turn, run, pending.committed);
      break;
    case 'checkpoints':
      if (pending.committed !== undefined) checkpointStored(turn, run, pending.committed);
      break;
    case 'facts':
      break;
  }
}

/** A submit is answered with the failure; everything else is tried again, because it has to happen. */
export function writeFailed(turn: Turn, operation: string, reason: string): void {
  const entry = turn.state.writes.get(operation);
  if (entry === undefined) return;
  const { pending } = entry;
  const about = 'job' in pending ? { job: pending.job } : {};
  log(turn, 'error', 'etcd did not store a write', { ...about, operation, write: pending.kind, reason });
  if (entry.pending.kind === 'submit') {
    turn.state.writes.delete(operation);
    submitFailed(turn, entry.pending, reason);
  } else if (entry.pending.kind === 'node') {
    turn.state.writes.delete(operation);
    const message = `etcd did not store it: ${reason}`;
    turn.commands.push({ kind: 'reply_error', request: entry.pending.request, code: 'not_stored', message });
  } else if (isRepeated(entry.pending)) {
    turn.state.writes.delete(operation); // A newer one follows.
  } else {
    entry.retryMs = turn.nowMs + RETRY_MS;
  }
}

function isRepeated({ kind }: Pending): boolean {
  return kind === 'progress' || kind === 'facts' || kind === 'accounts';
}

export function retryWrites(turn: Turn): void {
  for (const [operation, entry] of turn.state.writes) {
    if (entry.retryMs === undefined || turn.nowMs < entry.retryMs) continue;
    attempt(turn, operation, entry.pending);
  }
}
