/** Workers come, say what they hold, load jobs, fail and go. */

import { stepsPerEpoch } from '../../shared/plan.js';
import type { EngineFacts, WorkerMessage } from '../../shared/wire/session.js';
import { enter, leave, move } from './assignment.js';
import { forgetDigests } from './digests.js';
import { endJob } from './ending.js';
import { finishIfDone } from './finishing.js';
import { goAbove, isPlausible, overdue, reconcile, repeatWhatIsLost } from './formation.js';
import { noteLoss } from './loss.js';
import { drainOn } from './nodes.js';
import { greet, measureIdle, noteGone } from './preflights.js';
import { planShapeOf } from './progress.js';
import { noteFailure } from './quarantine.js';
import { judge } from './reachability.js';
import { release } from './release.js';
import { advanceSaving, takeBackSnapshot } from './saving.js';
import { schedule } from './schedule.js';
import { isTerminal, type JobRun, type Worker } from './state.js';
import { emit, log, logJob, send, type Turn, write } from './turn.js';

type Message<K extends WorkerMessage['kind']> = Extract<WorkerMessage, { kind: K }>;

const CRASH_BACKOFF_MS = 500;

/** So many restarts of one worker are remembered. */
const MOST_DISPLACED = 16;

export function hello(turn: Turn, session: string, message: Message<'hello'>): void {
  const known = turn.state.workers.get(message.worker);
  if (known?.displaced.includes(message.incarnation)) {
    refuseNamesake(turn, session, known);
    return;
  }
  if (known !== undefined && known.session !== session) {
    const reason = known.incarnation === message.incarnation ? 'it opened a new session' : 'it was restarted';
    dropSession(turn, known, reason);
  }
  const worker: Worker = {
    worker: message.worker,
    incarnation: message.incarnation,
    session,
    host: message.host,
    pid: message.pid,
    peerAddress: message.peerAddress,
    machine: message.machine,
    lastHeardMs: turn.nowMs,
    enginePid: message.holding?.facts?.enginePid ?? 0,
    committed: message.holding?.committed ?? 0,
    job: message.holding?.job,
    facts: message.holding?.facts,
    engineStart: message.holding?.engineStart ?? 0,
    healing: message.holding?.hasState === false,
    leaving: false,
    withdrawn: undefined,
    unloading: false,
    microbatchMs: 0,
    loopDelayMs: 0,
    engineUsage: undefined,
    hostUsedBytes: undefined,
    holding: message.holding,
    restoredPieces: 0,
    measures: message.measures,
    measureDue: false,
    measuringUntilMs: undefined,
    peersTold: 0,
    displaced: displacedBy(known, message.incarnation),
  };
  enter(turn.state, worker);
  turn.state.sessions.set(session, worker.worker);
  send(turn, worker, {
    kind: 'welcome',
    coordinator: turn.state.settings.name,
    heartbeatMs: turn.state.settings.heartbeatMs,
  });
  greet(turn, worker, message);
  takeBack(turn, worker);
  if (known !== undefined && known.job !== undefined && known.incarnation !== message.incarnation) {
    const run = turn.state.jobs.get(known.job);
    if (run !== undefined) noteLoss(turn, run, known, 'stream_reset', 'it was restarted');
  }
  schedule(turn);
  measureIdle(turn);
  if (known !== undefined) settleJobOf(turn, known);
  settleJobOf(turn, worker);
}

function displacedBy(known: Worker | undefined, incarnation: string): readonly string[] {
  if (known === undefined) return [];
  if (known.incarnation === incarnation) return known.displaced;
  return [...known.displaced, known.incarnation].slice(-MOST_DISPLACED);
}

/** Two daemons with one name would take it from each other for ever, and the job with it: the newer one keeps it. */
function refuseNamesake(turn: Turn, session: string, { worker, host, pid }: Worker): void {
  const reason = `another daemon with the name ${worker} runs on ${host} (process ${pid}): give each its own`;
  turn.commands.push({ kind: 'close_session', session, reason });
}

/** What a returning worker holds is compared with what the jobs are now. */
function takeBack(turn: Turn, worker: Worker): void {
  const run = worker.job === undefined ? undefined : turn.state.jobs.get(worker.job);
  if (worker.job === undefined) return;
  if (run === undefined || isTerminal(run.record.state)) {
    release(turn, worker, 'the job has ended');
    return;
  }
  const seen = worker.holding?.generation ?? 0;
  if (isPlausible(run, seen)) run.generation = Math.max(run.generation, seen);
  run.attempts.set(worker.worker, Math.max(run.attempts.get(worker.worker) ?? 0, worker.holding?.attempt ?? 0));
  // That it has loaded, or that it was refused, may be lost with the session before, or with the leader before.
  if (worker.facts !== undefined && !isWelcome(turn, run, worker, worker.facts)) return;
  forgetDigests(run, worker); // It sends its last one again.
  takeBackSnapshot(turn, run, worker);
  repeatWhatIsLost(turn, run, worker);
  drainOn(turn, worker);
}

/** Forgets a session without looking at what follows from it. */
function dropSession(turn: Turn, worker: Worker, reason: string): void {
  turn.state.sessions.delete(worker.session);
  turn.commands.push({ kind: 'close_session', session: worker.session, reason });
}

export function loseWorker(turn: Turn, worker: Worker, detectedBy: string, reason: string): void {
  dropSession(turn, worker, reason);
  leave(turn.state, worker);
  noteGone(turn, worker.worker);
  const run = worker.job === undefined ? undefined : turn.state.jobs.get(worker.job);
  const fields = { worker: worker.worker, detected_by: detectedBy, reason };
  if (run === undefined) log(turn, 'warn', 'worker lost', fields);
  else logJob(turn, run, 'warn', 'worker lost', fields);
  if (run !== undefined && !isTerminal(run.record.state)) noteLoss(turn, run, worker, detectedBy, reason);
  schedule(turn);
  settleJobOf(turn, worker);
}

const SHARED_FACTS: readonly (readonly [keyof EngineFacts, string])[] = [
  ['fingerprint', 'it would compute other bits (fingerprint)'],
  ['parameters', 'its model has another number of parameters'],
  ['vectorBytes', 'its exchange vector has another length'],
  ['bf16Bytes', 'its exchange vector has another layout'],
  ['datasetLength', 'its data set has another length'],
  ['datasetDigest', 'its data set has other content'],
  ['initialState', 'its model starts with other weights'],
];

function differenceOf(run: JobRun, facts: EngineFacts): string | undefined {
  const reference = run.record.facts;
  if (reference === null) return undefined;
  const found = SHARED_FACTS.find(
    ([fact]) =>
      facts[fact] !== reference[fact] &&
      !(run.record.spec.determinism === 'loose' && (fact === 'fingerprint' || fact === 'initialState')),
  );
  return found === undefined ? undefined : `${found[1]}: ${facts[found[0]]} where the job has ${reference[found[0]]}`;
}

/** Whether it computes what the job is about. The first that has loaded the job says what that is; who differs is refused. */
function isWelcome(turn: Turn, run: JobRun, worker: Worker, facts: EngineFacts): boolean {
  if (run.record.facts === null) adoptFacts(turn, run, facts);
  const difference = differenceOf(run, facts);
  if (difference === undefined) {
    run.refused.delete(worker.worker);
    return true;
  }
  run.refused.set(worker.worker, { incarnation: worker.incarnation, reason: difference });
  emit(turn, run, { kind: 'workerRefused', worker: worker.worker, reason: difference });
  release(turn, worker, difference);
  return false;
}

export function loaded(turn: Turn, run: JobRun, worker: Worker, message: Message<'loaded'>): void {
  if (!isWelcome(turn, run, worker, message.facts)) return;
  forgetDigests(run, worker);
  worker.facts = message.facts;
  worker.engineStart = message.engineStart;
  worker.enginePid = message.facts.enginePid;
  worker.committed = 0;
  worker.healing = false;
  emit(turn, run, { kind: 'workerJoined', worker: worker.worker });
}

function adoptFacts(turn: Turn, run: JobRun, facts: EngineFacts): void {
  run.record = { ...run.record, facts };
  const { spec } = run.record;
  if (stepsPerEpoch(planShapeOf(spec, facts)) < 1) {
    endJob(
      turn,
      run,
      'failed',
      `the data set has ${facts.datasetLength} samples, fewer than one batch of ${spec.batch}; ` +
        'use a smaller batch or data: {tail: keep}',
      '',
    );
    return;
  }
  write(turn, { kind: 'facts', job: run.record.job });
}

export function engineFailed(turn: Turn, run: JobRun, worker: Worker, message: Message<'engineFailed'>): void {
  if (worker.job !== run.record.job) return;
  noteLoss(turn, run, worker, message.phase === 'hang' ? 'hang' : 'engine_exit', message.message);
  worker.facts = undefined;
  free(turn, worker);
  worker.enginePid = 0;
  if (message.failure !== 'engine') {
    const where = `${message.phase} failed on ${worker.worker}`;
    endJob(turn, run, 'failed', `${where}: ${message.message}`, message.traceback);
    return;
  }
  const count = (run.crashes.get(worker.worker)?.count ?? 0) + 1;
  const retryMs = turn.nowMs + CRASH_BACKOFF_MS * 2 ** Math.min(count - 1, 6);
  run.crashes.set(worker.worker, { count, retryMs, reason: message.message });
  noteFailure(turn, worker.worker, message.message);
  logJob(turn, run, 'warn', 'engine failed', { worker: worker.worker, reason: message.message });
}

/** It has no job any more. */
function free(turn: Turn, worker: Worker): void {
  move(turn.state, worker, undefined);
  worker.withdrawn = undefined;
  worker.unloading = false;
}

export function unloaded(turn: Turn, worker: Worker, message: Message<'unloaded'>): void {
  // One whose engine had failed before it was told says so all the same, perhaps when it has been given the job again.
  const isAwaited = worker.unloading || worker.holding?.job === message.job;
  if (worker.job !== message.job || !isAwaited) return;
  free(turn, worker);
  worker.facts = undefined;
  worker.enginePid = 0;
  worker.committed = 0;
}

export function refused(turn: Turn, run: JobRun, message: Message<'refused'>): void {
  if (message.term > turn.leading.term) turn.commands.push({ kind: 'step_down' });
  else if (message.generation >= run.generation && isPlausible(run, message.generation)) {
    goAbove(turn, run, message.generation);
  }
}

/** Reading a large checkpoint makes no steps, and is a sign of life all the same. */
export function noteRestoring(turn: Turn, worker: Worker, restoredPieces: number): void {
  const run = worker.job === undefined ? undefined : turn.state.jobs.get(worker.job);
  if (run !== undefined && restoredPieces > worker.restoredPieces) run.lastCommitMs = turn.nowMs;
  worker.restoredPieces = restoredPieces;
}

/** Deadlines: heartbeats and prepares. */
export function checkDeadlines(turn: Turn): void {
  const { heartbeatMs, missedHeartbeats } = turn.state.settings;
  for (const worker of [...turn.state.workers.values()]) {
    if (turn.nowMs - worker.lastHeardMs > heartbeatMs * missedHeartbeats) {
      loseWorker(turn, worker, 'heartbeat', `silent for ${missedHeartbeats} heartbeats`);
    }
  }
  for (const run of turn.state.jobs.values()) {
    for (const name of overdue(turn, run)) {
      const worker = turn.state.workers.get(name);
      if (worker !== undefined) loseWorker(turn, worker, 'prepare_timeout', 'no answer to a prepare');
    }
    judge(turn, run);
  }
}

/** Gives idle workers work, and lets every job do what its membership needs. */
export function settle(turn: Turn): void {
  schedule(turn);
  settleJobs(turn);
}

export function settleJobs(turn: Turn): void {
  for (const run of turn.state.jobs.values()) settleJob(turn, run);
}

/** After something that concerns one job. What has changed for others by the way is seen at the next tick. */
export function settleJob(turn: Turn, run: JobRun): void {
  reconcile(turn, run);
  advanceSaving(turn, run);
  finishIfDone(turn, run);
}

export function settleJobOf(turn: Turn, worker: Worker): void {
  const run = worker.job === undefined ? undefined : turn.state.jobs.get(worker.job);
  if (run !== undefined) settleJob(turn, run);
}
