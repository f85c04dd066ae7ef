/**
 * What the next leader needs to go on counting: what each user has had lately, and what was spent on jobs that are not stored by the way
 * because they make no steps. One record, written seldom: a leader that dies takes no more with it than what came since.
 */
import type { Spent } from '../../shared/wire/jobs.js';
import { heaviestUsers } from './fair_share.js';
import { laterOf } from './spent.js';
import { type CoordinatorState, isTerminal, type JobRun } from './state.js';
import { type Turn, write } from './turn.js';

/** Of users those who have had most are stored; a job more or less of the others decides nothing. */
const MOST_JOBS = 1_000;

/** What etcd keeps of it. */
export interface AccountsRecord {
  /** When it was made, milliseconds since 1970. */
  readonly wallMs: number;
  /** Worker-seconds, faded until then. */
  readonly users: readonly { readonly user: string; readonly workerSeconds: number }[];
  readonly jobs: readonly { readonly job: string; readonly spent: Spent }[];
}

/** Called at each tick. */
export function storeAccounts(turn: Turn): void {
  const { accountsStoredMs, settings } = turn.state;
  if (turn.nowMs - accountsStoredMs < settings.accountsMs) return;
  turn.state.accountsStoredMs = turn.nowMs;
  write(turn, { kind: 'accounts', record: accountsOf(turn) });
}

function accountsOf({ state, nowMs, wallMs }: Turn): AccountsRecord {
  const jobs = [...state.jobs.values()]
    .filter((run) => isStoredOnlyHere(run, nowMs - state.settings.accountsMs))
    .slice(0, MOST_JOBS);
  return {
    wallMs,
    users: heaviestUsers(state.usages, nowMs),
    jobs: jobs.map(({ record, spent }) => ({ job: record.job, spent })),
  };
}

/** The others are stored with each of their steps, or nearly. */
function isStoredOnlyHere({ record, progressStoredMs, ending }: JobRun, sinceMs: number): boolean {
  return !isTerminal(record.state) && !ending && progressStoredMs <= sinceMs;
}

/** A new leader has read it. Clocks of two machines may differ: what was used never grows by that. */
export function adoptAccounts(
  state: CoordinatorState,
  { nowMs, wallMs }: Pick<Turn, 'nowMs' | 'wallMs'>,
  accounts: AccountsRecord | undefined,
): void {
  state.accountsStoredMs = nowMs;
  if (accounts === undefined) return;
  const atMs = nowMs - Math.max(0, wallMs - accounts.wallMs);
  for (const { user, workerSeconds } of accounts.users) state.usages.set(user, { workerSeconds, atMs });
  for (const { job, spent } of accounts.jobs) {
    const run = state.jobs.get(job);
    if (run === undefined || isTerminal(run.record.state)) continue;
    run.spent = laterOf(run.spent, spent);
    run.waitedMs = waitedMsOf(run.record.spec.workersMin, run.spent);
  }
}

/** Milliseconds in which a job had no worker. */
export function waitedMsOf(workersMin: number, { queuedSeconds }: Spent): number {
  return (queuedSeconds / workersMin) * 1000;
}
