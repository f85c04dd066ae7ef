/** Where the worker-seconds of every job go, so that its owner sees what became progress. Counted at each tick, and at each reported step. */
import type { Spent } from '../../shared/wire/jobs.js';
import { countOf } from './assignment.js';
import { addUsage } from './fair_share.js';
import { isTerminal, type JobRun } from './state.js';
import type { Turn } from './turn.js';

/** Often enough for people. */
const LOOK_MS = 200;

/** Each of the sums as `secondsOf` says. */
export function spentOf(secondsOf: (name: keyof Spent) => number): Spent {
  return {
    workerSeconds: secondsOf('workerSeconds'),
    computeSeconds: secondsOf('computeSeconds'),
    exchangeSeconds: secondsOf('exchangeSeconds'),
    applySeconds: secondsOf('applySeconds'),
    loadingSeconds: secondsOf('loadingSeconds'),
    recoverySeconds: secondsOf('recoverySeconds'),
    queuedSeconds: secondsOf('queuedSeconds'),
  };
}

export const NOTHING_SPENT = spentOf(() => 0);

function add(run: JobRun, more: Partial<Spent>): void {
  const { spent } = run;
  run.spent = spentOf((name) => spent[name] + (more[name] ?? 0));
}

/** Called at each tick. */
export function account(turn: Turn): void {
  const elapsedMs = turn.nowMs - turn.state.accountedMs;
  if (elapsedMs < LOOK_MS) return;
  turn.state.accountedMs = turn.nowMs;
  for (const run of turn.state.jobs.values()) if (!isTerminal(run.record.state)) accountJob(turn, run, elapsedMs);
}

function accountJob(turn: Turn, run: JobRun, elapsedMs: number): void {
  const seconds = elapsedMs / 1000;
  const held = countOf(turn.state, run.record.job);
  if (held === 0) {
    run.waitedMs += elapsedMs;
    add(run, { queuedSeconds: run.record.spec.workersMin * seconds });
    return;
  }
  addUsage(turn.state.usages, run.record.user, held * seconds, turn.nowMs);
  const { formation } = run;
  const members = formation.kind === 'started' ? Math.min(held, formation.record.roster.length) : 0;
  // Until the first step of its first generation a job loads; later it recovers.
  const isNew = run.lastRecord === undefined;
  const pausing = run.pause === undefined && formation.kind === 'started' ? 0 : held;
  const loadingSeconds = (isNew ? held : held - Math.max(members, pausing)) * seconds;
  add(run, {
    workerSeconds: held * seconds,
    loadingSeconds,
    recoverySeconds: isNew ? 0 : pausing * seconds,
  });
}

interface StepTimes {
  readonly stepMs: number;
  readonly computeMs: number;
  readonly reduceMs: number;
  readonly applyMs: number;
}

/** A step was reported by one worker; the others took as long. What is made again is no progress. */
export function accountStep(run: JobRun, times: StepTimes, isRedone: boolean): void {
  const workers = (run.lastRecord?.roster.length ?? 0) / 1000;
  if (isRedone) add(run, { recoverySeconds: workers * times.stepMs });
  else {
    add(run, {
      computeSeconds: workers * times.computeMs,
      exchangeSeconds: workers * times.reduceMs,
      applySeconds: workers * times.applyMs,
    });
  }
}
