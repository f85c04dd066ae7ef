/** Cordoning and draining: people decide that a machine gets no new work, or none at all. Acknowledged when it is in etcd. */
import { withdraw } from './departure.js';
import type { CoordinatorEvent } from './event.js';
import { takeBackMarked } from './preflights.js';
import { release } from './release.js';
import { isTerminal, type Pending, type Worker } from './state.js';
import { log, type Turn, write } from './turn.js';

type NodeEvent = Extract<CoordinatorEvent, { kind: 'cordon' | 'uncordon' | 'drain' }>;

/** Empty would mean that it is not cordoned. */
export function cordonReason(text: string, who = ''): string {
  if (text.trim() !== '') return text.trim();
  return `by ${who === '' ? 'an operator' : who}`;
}

export function cordonedOf({ nodes }: Turn['state'], worker: string): string {
  return nodes.get(worker)?.cordoned ?? '';
}

export function changeNode(turn: Turn, event: NodeEvent): void {
  const { request, worker } = event;
  if (!isKnown(turn, worker)) {
    turn.commands.push({ kind: 'reply_error', request, code: 'not_found', message: `there is no worker ${worker}` });
    return;
  }
  const record = { worker, cordoned: event.kind === 'uncordon' ? '' : event.reason };
  write(turn, { kind: 'node', record, request, drainMs: event.kind === 'drain' ? event.deadlineMs : undefined });
}

function isKnown({ state }: Turn, worker: string): boolean {
  const isBeingStored = [...state.writes.values()].some(
    ({ pending }) => pending.kind === 'node' && pending.record.worker === worker,
  );
  return state.workers.has(worker) || state.nodes.has(worker) || state.preflights.has(worker) || isBeingStored;
}

export function nodeStored(turn: Turn, { record, request, drainMs }: Extract<Pending, { kind: 'node' }>): void {
  const { state } = turn;
  state.nodes.set(record.worker, record);
  log(turn, 'info', record.cordoned === '' ? 'worker uncordoned' : 'worker cordoned', { ...record });
  if (record.cordoned === '') {
    state.failures.delete(record.worker);
    state.drains.delete(record.worker);
    takeBackMarked(turn, record.worker);
  }
  const worker = state.workers.get(record.worker);
  if (drainMs !== undefined) state.drains.set(record.worker, turn.nowMs + drainMs);
  if (drainMs !== undefined && worker !== undefined) drainOn(turn, worker);
  turn.commands.push({ kind: 'reply_node', request, worker: record.worker });
}

/** Takes it away from its job if it is to be drained: also when its session has begun anew, and it does not know that it was to go. */
export function drainOn(turn: Turn, worker: Worker): void {
  const run = worker.job === undefined ? undefined : turn.state.jobs.get(worker.job);
  if (run === undefined || isTerminal(run.record.state) || !turn.state.drains.has(worker.worker)) return;
  withdraw(turn, run, worker, `it is drained: ${cordonedOf(turn.state, worker.worker)}`);
}

/** Those that have not gone in time go now. Of one that is not there it is not known whether it has gone. */
export function endDrains(turn: Turn): void {
  for (const [name, deadlineMs] of turn.state.drains) {
    const worker = turn.state.workers.get(name);
    const isGone = worker !== undefined && worker.job === undefined;
    // One whose state could not be saved is in its job again until then.
    if (!isGone && turn.nowMs < deadlineMs) continue;
    turn.state.drains.delete(name);
    if (worker !== undefined && !isGone && !worker.unloading) release(turn, worker, 'it was to be drained by now');
  }
}
