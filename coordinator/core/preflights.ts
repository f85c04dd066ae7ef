/**
 * Pre-flights: a worker that measures itself gets no job before it has, and none while it is marked for what was found. What is known of a
 * worker outlives its session for some minutes, so that a daemon that was started again is given work at once: it is measured again when it
 * is idle. What a coordinator has said of a pre-flight is known to the worker, and so to the next leader.
 */

import { hostOf } from '../../shared/address.js';
import type { Preflight } from '../../shared/wire/jobs.js';
import type { WorkerMessage } from '../../shared/wire/session.js';
import { assignedTo } from './assignment.js';
import { isAlike, LEAST_OTHERS, lag, unfitness } from './fitness.js';
import { isTerminal, type Measured, type Worker } from './state.js';
import { emit, log, send, type Turn } from './turn.js';

type Message<K extends WorkerMessage['kind']> = Extract<WorkerMessage, { kind: K }>;

/** Of a worker that has gone. A machine that comes back later may have been changed. */
const KEPT_MS = 10 * 60 * 1000;
/** A worker waits for the pre-flights of others for so long at most: on a cold disk an engine takes minutes to start. */
const PEERS_MS = 30_000;
const MOST_PEERS = 2;

/** Why it may not be given a job for the sake of its pre-flight; undefined if it may. The same words for all, so that they can be counted. */
export function preflightBar(turn: Turn, worker: Worker): string | undefined {
  if (!worker.measures) return undefined;
  const known = turn.state.preflights.get(worker.worker);
  if (known === undefined) return 'its pre-flight has not come';
  if (known.marked !== '') return 'it is marked for its pre-flight';
  return waitsForPeers(turn, worker.worker, known) ? 'its pre-flight waits for those of its peers' : undefined;
}

/** It can be compared as soon as others, who are at it, have measured. */
function waitsForPeers(turn: Turn, name: string, { report, judged, sinceMs }: Measured): boolean {
  if (judged || report === undefined || turn.nowMs - sinceMs > PEERS_MS) return false;
  const others = othersOf(turn, name, report).length;
  return others < LEAST_OTHERS && others + countMeasuring(turn) >= LEAST_OTHERS;
}

/** Why it is marked; empty if it is not. */
export function markOf({ preflights }: Turn['state'], worker: string): string {
  return preflights.get(worker)?.marked ?? '';
}

/** A session begins: whatever the worker knows of its machine is heard, or was heard before. */
export function greet(turn: Turn, worker: Worker, { preflight, verdict }: Message<'hello'>): void {
  const { preflights } = turn.state;
  const known = preflights.get(worker.worker);
  if (!worker.measures) {
    preflights.delete(worker.worker);
    return;
  }
  if (known !== undefined) known.goneMs = undefined;
  worker.measureDue = preflight === undefined;
  if (preflight === undefined) return;
  if (known?.report?.timeMs === preflight.timeMs && known.incarnation === worker.incarnation) {
    // It may have been lost with the session before.
    if (known.judged) send(turn, worker, { kind: 'verdict', marked: known.marked });
    return;
  }
  take(turn, worker, preflight, verdict?.marked);
}

export function measured(turn: Turn, worker: Worker, { preflight }: Message<'measured'>): void {
  worker.measuringUntilMs = undefined;
  take(turn, worker, preflight, undefined);
}

/** `marked`: what a leader before this one has made of it. */
function take(turn: Turn, worker: Worker, report: Preflight, marked: string | undefined): void {
  const known: Measured = {
    incarnation: worker.incarnation,
    report,
    sinceMs: turn.nowMs,
    judged: marked !== undefined,
    marked: marked ?? markOf(turn.state, worker.worker),
    goneMs: undefined,
  };
  turn.state.preflights.set(worker.worker, known);
  judgeAll(turn);
  // There is nobody to compare it with.
  if (!known.judged) mark(turn, worker.worker, known, '');
}

/** Whoever has not been compared, for want of others, is looked at whenever there may be some. */
function judgeAll(turn: Turn): void {
  for (const [name, known] of turn.state.preflights) if (!known.judged) judge(turn, name, known);
}

function judge(turn: Turn, name: string, known: Measured): void {
  const { report } = known;
  const worker = turn.state.workers.get(name);
  if (report === undefined || worker === undefined) return;
  const unfit = unfitness(report, worker.machine);
  const others = othersOf(turn, name, report);
  if (unfit === '' && others.length < LEAST_OTHERS) return;
  known.judged = true;
  mark(turn, name, known, unfit === '' ? lag(report, others) : unfit);
  send(turn, worker, { kind: 'verdict', marked: known.marked });
}

/** Those that are fit by themselves, whether marked or not: a median does not mind some that are far off. */
function othersOf(turn: Turn, name: string, report: Preflight): readonly Preflight[] {
  return [...turn.state.preflights].flatMap(([other, { report: found }]) =>
    other !== name && found !== undefined && found.engineProblem === '' && isAlike(found, report) ? [found] : [],
  );
}

/** Of whom nothing is known yet. */
function countMeasuring({ state }: Turn): number {
  let count = 0;
  for (const worker of state.workers.values()) {
    if (worker.measuringUntilMs !== undefined && !state.preflights.has(worker.worker)) count++;
  }
  return count;
}

function mark(turn: Turn, name: string, known: Measured, reason: string): void {
  const wasMarked = known.marked !== '';
  known.marked = reason;
  known.sinceMs = turn.nowMs;
  if (wasMarked !== (reason !== '')) tell(turn, name, reason);
}

function tell(turn: Turn, worker: string, reason: string): void {
  if (reason === '') log(turn, 'info', 'worker is not marked any more', { worker });
  else log(turn, 'warn', 'worker marked for its pre-flight', { worker, reason });
  for (const run of turn.state.jobs.values()) {
    if (!isTerminal(run.record.state)) emit(turn, run, { kind: 'workerMarked', worker, reason });
  }
}

/** An operator trusts it all the same, until it is measured anew. */
export function takeBackMarked(turn: Turn, name: string): void {
  const known = turn.state.preflights.get(name);
  if (known === undefined || known.marked === '') return;
  known.judged = true;
  mark(turn, name, known, '');
  const worker = turn.state.workers.get(name);
  if (worker !== undefined) send(turn, worker, { kind: 'verdict', marked: '' });
}

/** A worker that is given a job lets go of what it was measuring; one that was to be measured again still is. */
export function interruptMeasuring(worker: Worker): void {
  if (worker.measuringUntilMs === undefined) return;
  worker.measuringUntilMs = undefined;
  worker.measureDue = true;
}

export function noteGone({ state, nowMs }: Turn, name: string): void {
  const known = state.preflights.get(name);
  if (known !== undefined) known.goneMs = nowMs;
}

/** Called at each tick, and when a worker has come: idle workers are asked, and those that do not answer are marked. */
export function measureIdle(turn: Turn): void {
  const { state, nowMs } = turn;
  for (const [name, { goneMs }] of state.preflights) {
    if (goneMs !== undefined && nowMs - goneMs > KEPT_MS) state.preflights.delete(name);
  }
  for (const worker of assignedTo(state, undefined)) {
    if (worker.measuringUntilMs === undefined) askIfDue(turn, worker);
    else if (nowMs > worker.measuringUntilMs) giveUp(turn, worker);
    else if (worker.peersTold < MOST_PEERS) nameMorePeers(turn, worker);
  }
}

function askIfDue(turn: Turn, worker: Worker): void {
  const { state, nowMs } = turn;
  if (!worker.measures || worker.leaving) return;
  const known = state.preflights.get(worker.worker);
  if (!worker.measureDue && !(known !== undefined && isDueAgain(turn, known))) return;
  worker.measureDue = false;
  worker.measuringUntilMs = nowMs + state.settings.measureMs;
  namePeers(turn, worker, peersFor(turn, worker));
}

/** Of one that is marked, and of one that had nobody to pull from. */
function isDueAgain({ state, nowMs }: Turn, { report, marked, sinceMs }: Measured): boolean {
  const lacksPeers = (report?.peers.length ?? 0) < MOST_PEERS && state.workers.size > MOST_PEERS;
  return (marked !== '' || lacksPeers) && nowMs - sinceMs > state.settings.remeasureMs;
}

/** To one that is at it: of workers that come together the first knows nobody at first. */
function nameMorePeers(turn: Turn, worker: Worker): void {
  if (turn.state.workers.size <= worker.peersTold + 1) return;
  const peers = peersFor(turn, worker);
  if (peers.length > worker.peersTold) namePeers(turn, worker, peers);
}

function namePeers(turn: Turn, worker: Worker, peers: readonly Worker[]): void {
  worker.peersTold = peers.length;
  const named = peers.map(({ worker: name, peerAddress }) => ({ worker: name, peerAddress }));
  send(turn, worker, { kind: 'measure', peers: named });
}

function giveUp(turn: Turn, worker: Worker): void {
  worker.measuringUntilMs = undefined;
  const known: Measured = {
    incarnation: worker.incarnation,
    report: undefined,
    sinceMs: turn.nowMs,
    judged: true,
    marked: markOf(turn.state, worker.worker),
    goneMs: undefined,
  };
  turn.state.preflights.set(worker.worker, known);
  mark(turn, worker.worker, known, `its pre-flight has not come within ${turn.state.settings.measureMs / 1000} s`);
}

/** On other hosts rather than its own, idle rather than at work; and not the same ones for everybody. */
function peersFor({ state }: Turn, worker: Worker): readonly Worker[] {
  const rank = (other: Worker): number =>
    (hostOf(other.peerAddress) === hostOf(worker.peerAddress) ? 4 : 0) +
    (other.job === undefined ? 0 : 2) +
    (other.worker > worker.worker ? 0 : 1);
  return [...state.workers.values()]
    .filter((other) => other !== worker && !other.leaving)
    .sort((left, right) => rank(left) - rank(right) || (left.worker < right.worker ? -1 : 1))
    .slice(0, MOST_PEERS);
}
