/** Workers that fail again and again, in whatever job, are taken only when no other fits. */
import type { CoordinatorState } from './state.js';
import { log, type Turn } from './turn.js';

const WINDOW_MS = 3600 * 1000;
const MOST_REMEMBERED = 100;

/** Its engine crashed or hung, or its state was wrong. */
export function noteFailure(turn: Turn, worker: string, what: string): void {
  const { failures } = turn.state;
  const before = quarantineOf(turn.state, worker, turn.nowMs);
  const recent = recentOf(turn.state, worker, turn.nowMs);
  failures.set(worker, [...recent, turn.nowMs].slice(-MOST_REMEMBERED));
  // Workers come and go under ever new names.
  for (const name of failures.keys()) if (recentOf(turn.state, name, turn.nowMs).length === 0) failures.delete(name);
  const reason = quarantineOf(turn.state, worker, turn.nowMs);
  if (before === '' && reason !== '') log(turn, 'warn', 'worker quarantined', { worker, reason, last: what });
}

function recentOf(state: CoordinatorState, worker: string, nowMs: number): readonly number[] {
  return (state.failures.get(worker) ?? []).filter((atMs) => nowMs - atMs < WINDOW_MS);
}

/** Why the worker is not trusted; empty if it is. */
export function quarantineOf(state: CoordinatorState, worker: string, nowMs: number): string {
  const { quarantineAfter } = state.settings.scheduling;
  const count = recentOf(state, worker, nowMs).length;
  return quarantineAfter > 0 && count >= quarantineAfter ? `failed ${count} times within an hour` : '';
}
