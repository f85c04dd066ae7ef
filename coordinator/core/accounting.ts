/** Where the worker-seconds of every job go, so that its owner sees what became progress. Counted at each tick, and at each reported step. */
import type { Spent } from '../../shared/wire/jobs.js';
import { countOf } from './assignment.js';
import { addUsage } from './fair_share.js';
import { isTerminal, type JobRun } from './state.js';
import type { Turn } from './turn.js';

export const NOTHING_SPENT: Spent = {
  workerSeconds: 0,
  computeSeconds: 0,
  exchangeSeconds: 0,
  applySeconds: 0,
  loadingSeconds: 0,
  recoverySeconds: 0,
  queuedSeconds: 0,
};

function add(run: JobRun, more: Partial<Spent>): void {
  const sum = (name: keyof Spent): number => run.spent[name] + (more[name] ?? 0);
  run.spent = {
    workerSeconds: sum('workerSeconds'),
    computeSeconds: sum('computeSeconds'),
    exchangeSeconds: sum('exchangeSeconds'),
    applySeconds: sum('applySeconds'),
    loadingSeconds: sum('loadingSeconds'),
    recoverySeconds: sum('recoverySeconds'),
    queuedSeconds: sum('queuedSeconds'),
  };
}

/** Called at each tick. */
export function account(turn: Turn): void {
  const elapsedMs = Math.max(0, turn.nowMs - turn.state.accountedMs);
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
