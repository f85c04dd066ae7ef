/**
 * Where the worker-seconds go, of every job and of the whole cluster, so that their owners see what became progress. Counted at each look:
 * every worker is in one class since the look before. Workers that train are split further by what the steps report, never into more than
 * the time that there was; what is left of it is waiting. So the classes always add up to all of it.
 */
import type { Spent } from '../../shared/wire/jobs.js';
import { assignedTo, countOf } from './assignment.js';
import { addUsage } from './fair_share.js';
import { markOf } from './preflights.js';
import { quarantineOf } from './quarantine.js';
import { isGoing } from './release.js';
import { NAMED, type Named, sum, type Unused } from './spent.js';
import { type CoordinatorState, isTerminal, type JobRun, type Worker } from './state.js';
import type { Turn } from './turn.js';

/** Often enough for people. */
const LOOK_MS = 200;

function add(state: CoordinatorState, run: JobRun, more: Partial<Spent>): void {
  run.spent = sum(run.spent, more);
  state.cluster = { ...state.cluster, jobs: sum(state.cluster.jobs, more) };
}

/** Called at each tick. */
export function account(turn: Turn): void {
  if (turn.nowMs - turn.state.accountedMs >= LOOK_MS) accountNow(turn);
}

/** Of all, whatever asks for it: a worker must not be counted twice, or not at all, when it goes from one job to another. */
export function accountNow(turn: Turn): void {
  const { state, nowMs } = turn;
  const elapsedMs = nowMs - state.accountedMs;
  if (elapsedMs <= 0) return;
  state.accountedMs = nowMs;
  for (const run of state.jobs.values()) if (!isTerminal(run.record.state)) accountJob(turn, run, elapsedMs);
  accountUnused(turn, elapsedMs / 1000);
}

function accountJob(turn: Turn, run: JobRun, elapsedMs: number): void {
  const { state } = turn;
  const seconds = elapsedMs / 1000;
  const held = countOf(state, run.record.job);
  if (held === 0) {
    run.waitedMs += elapsedMs;
    add(state, run, { queuedSeconds: run.record.spec.workersMin * seconds });
    return;
  }
  addUsage(state.usages, run.record.user, held * seconds, turn.nowMs);
  const members = membersOf(run);
  const counts = { training: 0, loadingSeconds: 0, recoverySeconds: 0, checkpointSeconds: 0 };
  for (const worker of assignedTo(state, run.record.job)) counts[classOf(run, worker, members)] += seconds;
  const { training, ...named } = counts;
  add(state, run, { workerSeconds: held * seconds, ...named });
  run.unclaimedSeconds += training;
  claim(state, run);
}

function membersOf({ formation }: JobRun): ReadonlySet<string> {
  return new Set(formation.kind === 'started' ? formation.record.roster.map(({ worker }) => worker) : []);
}

function classOf(run: JobRun, worker: Worker, members: ReadonlySet<string>) {
  const { formation, lastRecord, pause, saving } = run;
  if (worker.unloading) return 'loadingSeconds';
  // It stays only until its state is saved.
  if (isGoing(worker) && saving.save !== undefined) return 'checkpointSeconds';
  // Until the first step of its first generation a job loads; later it recovers.
  if (lastRecord === undefined) return 'loadingSeconds';
  if (pause !== undefined || formation.kind !== 'started' || formation.restores !== undefined) return 'recoverySeconds';
  return members.has(worker.worker) ? 'training' : 'loadingSeconds';
}

/** Gives the time of those that trained to what they reported. More than there is, after a change of leader for example, is cut. */
function claim(state: CoordinatorState, run: JobRun): void {
  const { reported } = run;
  const wanted = NAMED.reduce((seconds, name) => seconds + (reported[name] ?? 0), 0);
  run.reported = {};
  if (wanted <= 0) return;
  const share = Math.min(1, run.unclaimedSeconds / wanted);
  // Not below 0: that would come back as a share below 0.
  run.unclaimedSeconds = Math.max(0, run.unclaimedSeconds - share * wanted);
  add(state, run, Object.fromEntries(NAMED.map((name) => [name, share * (reported[name] ?? 0)])));
}

function report({ reported }: JobRun, name: Named, seconds: number): void {
  reported[name] = (reported[name] ?? 0) + seconds;
}

interface StepTimes {
  readonly stepMs: number;
  readonly dataMs?: number | undefined;
  readonly computeMs: number;
  readonly reduceMs: number;
  readonly gatherMs?: number | undefined;
  readonly applyMs: number;
}

/** A step was reported by one worker; the others took as long. What is made again is no progress. */
export function accountStep(run: JobRun, times: StepTimes, isRedone: boolean): void {
  const workers = (run.lastRecord?.roster.length ?? 0) / 1000;
  if (isRedone) report(run, 'recoverySeconds', workers * times.stepMs);
  else {
    report(run, 'dataSeconds', workers * (times.dataMs ?? 0));
    report(run, 'computeSeconds', workers * times.computeMs);
    report(run, 'reduceSeconds', workers * times.reduceMs);
    report(run, 'gatherSeconds', workers * (times.gatherMs ?? 0));
    report(run, 'applySeconds', workers * times.applyMs);
  }
}

/** A worker's engine has copied its state for a checkpoint; that it is written meanwhile takes no time of the training. */
export function accountCopy(run: JobRun, copyMs: number): void {
  report(run, 'checkpointSeconds', copyMs / 1000);
}

function accountUnused(turn: Turn, seconds: number): void {
  const { state } = turn;
  const unused = { ...state.cluster.unused };
  for (const worker of state.workers.values()) {
    const name = unusedClassOf(turn, worker);
    if (name !== undefined) unused[name] += seconds;
  }
  state.cluster = { ...state.cluster, unused };
}

function unusedClassOf({ state, nowMs }: Turn, worker: Worker): keyof Unused | undefined {
  const run = worker.job === undefined ? undefined : state.jobs.get(worker.job);
  if (run !== undefined && !isTerminal(run.record.state)) return undefined;
  if (worker.job !== undefined || worker.leaving) return 'leavingSeconds';
  if ((state.nodes.get(worker.worker)?.cordoned ?? '') !== '') return 'cordonedSeconds';
  const shunned = markOf(state, worker.worker) !== '' || quarantineOf(state, worker.worker, nowMs) !== '';
  return shunned ? 'quarantinedSeconds' : 'idleSeconds';
}
