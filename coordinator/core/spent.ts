/** Sums of worker-seconds by what became of them. The classes of a job add up to its worker-seconds: what has no name is waiting. */
import type { Spent } from '../../shared/wire/jobs.js';

/** Of `workerSeconds`; what none of them has is waiting. */
export const NAMED = [
  'dataSeconds',
  'computeSeconds',
  'reduceSeconds',
  'gatherSeconds',
  'applySeconds',
  'checkpointSeconds',
  'loadingSeconds',
  'recoverySeconds',
] as const;
export type Named = (typeof NAMED)[number];

/** What became of the workers that no job has. */
export interface Unused {
  readonly idleSeconds: number;
  readonly cordonedSeconds: number;
  readonly quarantinedSeconds: number;
  /** Told to stop, or unloading a job that has ended. */
  readonly leavingSeconds: number;
}

export interface ClusterSpent {
  /** When this leader began, milliseconds since 1970. */
  readonly sinceMs: number;
  /** By all jobs since then. */
  readonly jobs: Spent;
  readonly unused: Unused;
}

/** What the steps, and the copies of states, have reported since the last look, in worker-seconds. */
export type Reported = Partial<Record<Named, number>>;

/** Each of the sums as `secondsOf` says. */
export function spentOf(secondsOf: (name: keyof Spent) => number): Spent {
  return {
    workerSeconds: secondsOf('workerSeconds'),
    dataSeconds: secondsOf('dataSeconds'),
    computeSeconds: secondsOf('computeSeconds'),
    reduceSeconds: secondsOf('reduceSeconds'),
    gatherSeconds: secondsOf('gatherSeconds'),
    applySeconds: secondsOf('applySeconds'),
    loadingSeconds: secondsOf('loadingSeconds'),
    recoverySeconds: secondsOf('recoverySeconds'),
    queuedSeconds: secondsOf('queuedSeconds'),
    checkpointSeconds: secondsOf('checkpointSeconds'),
    waitingSeconds: secondsOf('waitingSeconds'),
  };
}

export const NOTHING_SPENT = spentOf(() => 0);

const NOTHING_UNUSED: Unused = { idleSeconds: 0, cordonedSeconds: 0, quarantinedSeconds: 0, leavingSeconds: 0 };

export function noClusterSpent(sinceMs: number): ClusterSpent {
  return { sinceMs, jobs: NOTHING_SPENT, unused: NOTHING_UNUSED };
}

/** Sums only grow, but for waiting: of two of the same job the later one. */
export function laterOf(one: Spent, other: Spent): Spent {
  const total = ({ workerSeconds, queuedSeconds }: Spent): number => workerSeconds + queuedSeconds;
  return total(other) > total(one) ? other : one;
}

export function sum(before: Spent, more: Partial<Spent>): Spent {
  const now = spentOf((name) => before[name] + (more[name] ?? 0));
  const named = NAMED.reduce((seconds, name) => seconds + now[name], 0);
  return { ...now, waitingSeconds: Math.max(0, now.workerSeconds - named) };
}
