/** The coordinator as a deterministic machine: an event in, commands out. */
import type { WorkerMessage } from '../../shared/wire/session.js';
import { account, accountCopy } from './accounting.js';
import { adoptAccounts, storeAccounts } from './accounts.js';
import { forgetAll } from './assignment.js';
import type { CoordinatorCommand } from './command.js';
import { leaving } from './departure.js';
import { digestReported } from './digests.js';
import { emitEnd } from './ending.js';
import type { At, CoordinatorEvent } from './event.js';
import { finished } from './finishing.js';
import { answerPrepare } from './formation.js';
import { addLines, endCollecting } from './job_logs.js';
import { cancel, newRun, resume, submit } from './jobs.js';
import * as membership from './membership.js';
import { changeNode, endDrains } from './nodes.js';
import { measured, measureIdle } from './preflights.js';
import * as progress from './progress.js';
import { complain } from './reachability.js';
import { takesLines } from './recently_ended.js';
import { restoreFailed } from './restoring.js';
import * as saving from './saving.js';
import { schedule, scheduleByTime } from './schedule.js';
import { noClusterSpent } from './spent.js';
import { type CoordinatorState, isTerminal, type JobRun, type Worker } from './state.js';
import type { Turn } from './turn.js';
import { retryWrites, writeFailed, writeStored } from './writes.js';

export function apply(state: CoordinatorState, at: At<CoordinatorEvent>): readonly CoordinatorCommand[] {
  const { event, nowMs, wallMs } = at;
  if (event.kind === 'elected') return elected(state, at, event);
  if (event.kind === 'deposed') return deposed(state);
  if (state.leading === undefined) return refuse(event);
  const turn: Turn = { state, leading: state.leading, nowMs, wallMs, commands: [] };
  handle(turn, event);
  return turn.commands;
}

function elected(
  state: CoordinatorState,
  { nowMs, wallMs }: At<CoordinatorEvent>,
  event: Extract<CoordinatorEvent, { kind: 'elected' }>,
): readonly CoordinatorCommand[] {
  const leading = { term: event.term, eventCounter: 0, operationCounter: 0, saveCounter: 0 };
  state.leading = leading;
  state.jobs.clear();
  state.logBytes = 0;
  state.recentlyEnded.length = 0;
  state.writes.clear();
  state.doubtfulSubmits.clear();
  state.nodes.clear();
  for (const record of event.nodes) state.nodes.set(record.worker, record);
  state.accountedMs = nowMs;
  state.cluster = noClusterSpent(wallMs);
  const generations = new Map(event.generations.map((record) => [record.job, record]));
  const checkpoints = new Map(event.checkpoints.map((record) => [record.job, record]));
  const deadlineMs = nowMs + state.settings.adoptMs;
  state.collectsUntilMs = deadlineMs;
  for (const record of event.jobs) {
    const last = generations.get(record.job);
    const adopting = last !== undefined && !isTerminal(record.state);
    const run = newRun(
      record,
      last,
      adopting ? { kind: 'adopting', deadlineMs } : { kind: 'gathering', sinceMs: nowMs },
    );
    run.lastCommitMs = nowMs;
    run.logs.collects = true;
    const { checkpoints: saved = [], removing = [] } = checkpoints.get(record.job) ?? {};
    run.checkpoints = saved;
    for (const path of removing) if (!saved.some((one) => one.path === path)) run.saving.removing.add(path);
    run.saving.lastMs = saving.savedMs({ nowMs, wallMs }, run);
    state.jobs.set(record.job, run);
  }
  adoptAccounts(state, { nowMs, wallMs }, event.accounts);
  const turn: Turn = { state, leading, nowMs, wallMs, commands: [] };
  // When they ended is not known any more; of those that were submitted last most is kept.
  const ended = [...state.jobs.values()].filter(({ record }) => isTerminal(record.state));
  ended.sort((left, right) => left.record.submittedMs - right.record.submittedMs);
  for (const run of ended) emitEnd(turn, run);
  membership.settle(turn);
  return turn.commands;
}

/** Forgets everything: what is durable is in etcd, and the workers will tell the next leader the rest. */
function deposed(state: CoordinatorState): readonly CoordinatorCommand[] {
  const commands: CoordinatorCommand[] = [...state.sessions.keys()].map((session) => ({
    kind: 'close_session',
    session,
    reason: 'this coordinator does not lead any more',
  }));
  for (const { pending } of state.writes.values()) {
    if (pending.kind === 'submit') commands.push(...pending.requests.map(unavailable));
    if (pending.kind === 'node') commands.push(unavailable(pending.request));
  }
  for (const run of state.jobs.values()) {
    const { save, cancels } = run.saving;
    for (const request of [...run.cancelRequests, ...cancels, ...(save?.cancels ?? [])]) {
      commands.push(unavailable(request));
    }
  }
  state.leading = undefined;
  state.sessions.clear();
  forgetAll(state);
  state.jobs.clear();
  state.recentlyEnded.length = 0;
  state.nodes.clear();
  state.drains.clear();
  state.preflights.clear();
  state.failures.clear();
  state.usages.clear();
  state.writes.clear();
  state.doubtfulSubmits.clear();
  return commands;
}

function unavailable(request: string): CoordinatorCommand {
  return { kind: 'reply_error', request, code: 'unavailable', message: 'this coordinator does not lead' };
}

function refuse(event: CoordinatorEvent): readonly CoordinatorCommand[] {
  if ('request' in event) return [unavailable(event.request)];
  if (event.kind === 'session_message') {
    return [{ kind: 'close_session', session: event.session, reason: 'this coordinator does not lead' }];
  }
  return [];
}

function handle(turn: Turn, event: Exclude<CoordinatorEvent, { kind: 'elected' | 'deposed' }>): void {
  switch (event.kind) {
    case 'session_message':
      sessionMessage(turn, event.session, event.message);
      break;
    case 'session_closed': {
      const worker = turn.state.workers.get(turn.state.sessions.get(event.session) ?? '');
      if (worker?.session === event.session) membership.loseWorker(turn, worker, 'stream_reset', event.reason);
      break;
    }
    case 'submit':
      submit(turn, event.request, event.job, event.submit);
      break;
    case 'resume':
      resume(turn, event.request, event.job, event.resume);
      break;
    case 'cancel':
      cancel(turn, event);
      break;
    case 'cordon':
    case 'uncordon':
    case 'drain':
      changeNode(turn, event);
      break;
    case 'write_stored':
      writeStored(turn, event.operation);
      break;
    case 'write_fenced':
      turn.commands.push({ kind: 'step_down' });
      break;
    case 'write_failed':
      writeFailed(turn, event.operation, event.reason);
      break;
    case 'ticked':
      membership.checkDeadlines(turn);
      endDrains(turn);
      account(turn);
      storeAccounts(turn);
      endCollecting(turn);
      retryWrites(turn);
      scheduleByTime(turn);
      measureIdle(turn);
      membership.settleJobs(turn);
      break;
  }
}

function sessionMessage(turn: Turn, session: string, message: WorkerMessage): void {
  if (message.kind === 'hello') {
    membership.hello(turn, session, message);
    return;
  }
  const worker = turn.state.workers.get(turn.state.sessions.get(session) ?? '');
  if (worker === undefined || worker.session !== session) {
    turn.commands.push({ kind: 'close_session', session, reason: 'it did not say hello' });
    return;
  }
  worker.lastHeardMs = turn.nowMs;
  if (message.kind === 'heartbeat') {
    worker.enginePid = message.enginePid;
    worker.committed = message.committed;
    worker.microbatchMs = message.microbatchMs;
    worker.loopDelayMs = message.loopDelayMs;
    worker.engineUsage = message.engineUsage;
    worker.hostUsedBytes = message.hostUsedBytes;
    membership.noteRestoring(turn, worker, message.restoredPieces);
    return;
  }
  if (message.kind === 'measured') {
    measured(turn, worker, message);
    schedule(turn);
    return;
  }
  const run = message.kind === 'leaving' ? undefined : turn.state.jobs.get(message.job);
  switch (message.kind) {
    case 'leaving':
      leaving(turn, worker);
      membership.settleJobOf(turn, worker);
      break;
    case 'unloaded':
      membership.unloaded(turn, worker, message);
      schedule(turn);
      if (run !== undefined) membership.settleJob(turn, run);
      break;
    default:
      if (run !== undefined && jobMessage(turn, run, worker, message)) membership.settleJob(turn, run);
  }
}

/** False if the job need not be looked at. */
function jobMessage(
  turn: Turn,
  run: JobRun,
  worker: Worker,
  message: Exclude<WorkerMessage, { kind: 'hello' | 'heartbeat' | 'unloaded' | 'leaving' | 'measured' }>,
): boolean {
  if (message.kind === 'logLines') {
    if (takesLines(turn.state, run)) addLines(turn, run, worker, message.lines);
    return false;
  }
  if (worker.job !== message.job || isTerminal(run.record.state)) return false;
  switch (message.kind) {
    case 'loaded':
      membership.loaded(turn, run, worker, message);
      break;
    case 'engineFailed':
      membership.engineFailed(turn, run, worker, message);
      schedule(turn);
      break;
    case 'prepared':
      return answerPrepare(run, worker, message);
    case 'stepCommitted':
      progress.stepCommitted(turn, run, worker, message);
      return progress.leadsOn(run);
    case 'digestReported':
      digestReported(turn, run, worker, message);
      break;
    case 'evaluated':
      progress.evaluated(turn, run, message);
      break;
    case 'finished':
      finished(turn, run, worker, message);
      break;
    case 'peerLost':
      complain(turn, run, worker, message);
      break;
    case 'refused':
      membership.refused(turn, run, message);
      break;
    case 'snapshotTaken':
      accountCopy(run, message.copyMs);
      saving.snapshotTaken(turn, run, worker, message.snapshot);
      break;
    case 'snapshotSkipped':
      saving.snapshotSkipped(turn, run, message);
      break;
    case 'shardWritten':
      saving.shardWritten(run, message);
      break;
    case 'saveFailed':
      saving.saveFailed(turn, run, worker, message);
      break;
    case 'checkpointPublished':
      saving.published(turn, run, message);
      break;
    case 'checkpointRemoved':
      saving.checkpointRemoved(run, message);
      break;
    case 'restoreFailed':
      restoreFailed(turn, run, worker, message);
      break;
    case 'healed':
      worker.healing = false;
      return false;
  }
  return true;
}
