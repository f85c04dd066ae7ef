/**
 * Whether this coordinator daemon is stuck. That etcd cannot be reached is no fault of it; that it does not try any more, or was elected
 * and does not take over, is.
 */
import { Lasting } from '../shared/service/lasting.js';

/** Reading all of etcd has a deadline; past it the coordinator steps down by itself. */
const TAKE_OVER_MS = 120_000;

export interface CoordinatorParts {
  readonly election: { term(): number | undefined; hasStopped(nowMs: number): boolean };
  readonly leaderWatch: { hasStopped(nowMs: number): boolean };
  /** The core has taken over. */
  readonly leads: () => boolean;
}

/** Returns the function that says what is wrong now. */
export function coordinatorHealth({
  election,
  leaderWatch,
  leads,
}: CoordinatorParts): (nowMs: number) => string | undefined {
  const elected = new Lasting(TAKE_OVER_MS);
  return (nowMs) => {
    const waits = election.term() !== undefined && !leads();
    if (elected.look(nowMs, waits)) return 'it was elected and has not taken over';
    if (election.hasStopped(nowMs)) return 'it stands for election no more';
    if (leaderWatch.hasStopped(nowMs)) return 'nothing looks any more who leads';
    return undefined;
  };
}
