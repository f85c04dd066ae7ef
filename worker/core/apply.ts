/** The worker as a deterministic machine: an event in, commands out. */
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { CheckpointEvent } from '../checkpoint/checkpoints.js';
import type { WorkerCommand } from './command.js';
import { objectionTo } from './engine_answers.js';
import * as engineLife from './engine_life.js';
import { ENDS_NOTHING, type EngineEvent } from './engine_protocol.js';
import type { At, WorkerEvent } from './event.js';
import * as finish from './finish.js';
import * as generation from './generation.js';
import { planAhead } from './planning.js';
import * as preflight from './preflight.js';
import { printed } from './prints.js';
import * as restore from './restore.js';
import * as session from './session.js';
import * as snapshot from './snapshot.js';
import type { JobRun, WorkerState } from './state.js';
import * as step from './step.js';
import { log, type Turn } from './turn.js';

export function apply(state: WorkerState, at: At<WorkerEvent>): readonly WorkerCommand[] {
  const turn: Turn = { state, nowMs: at.nowMs, wallMs: at.wallMs, commands: [] };
  handle(turn, at.event);
  return turn.commands;
}

function handle(turn: Turn, event: WorkerEvent): void {
  const { run } = turn.state;
  switch (event.kind) {
    case 'session_opened':
      session.opened(turn);
      break;
    case 'session_closed':
      turn.state.session = 'down';
      break;
    case 'coordinator_message':
      coordinatorMessage(turn, event.message);
      break;
    case 'engine_event':
      if (run?.engineStart === event.start && !run.unloading) engineEvent(turn, run, event.event);
      break;
    case 'engine_exited':
      if (run?.engineStart === event.start) engineLife.engineExited(turn, run, event.reason);
      break;
    case 'lines_printed':
      if (run?.engineStart === event.start) printed(turn, run, event.lines);
      break;
    case 'data_plane_event':
      if (run?.job === event.event.job && !run.unloading) dataPlaneEvent(turn, run, event.event);
      break;
    case 'checkpoint_event':
      checkpointEvent(turn, event.event);
      break;
    case 'model_described':
      if (run?.job === event.job) finish.modelDescribed(turn, run, event.path);
      break;
    case 'model_failed':
      if (run?.job === event.job) finish.modelFailed(turn, run, event.reason);
      break;
    case 'measured':
      preflight.measured(turn, event.preflight);
      break;
    case 'stop_requested':
      session.stopRequested(turn);
      break;
    case 'ticked':
      session.heartbeat(turn, event);
      if (run !== undefined) engineLife.checkHang(turn, run);
      break;
  }
}

/** Whoever leads under an older term than the highest seen is not obeyed. */
function coordinatorMessage(turn: Turn, message: CoordinatorMessage): void {
  if (message.term < turn.state.term) {
    log(turn, 'warn', 'message of an older term dropped', { term: message.term, seen: turn.state.term });
    return;
  }
  turn.state.term = message.term;
  switch (message.kind) {
    case 'welcome':
      session.welcomed(turn, message);
      return;
    case 'load':
      engineLife.load(turn, message);
      return;
    case 'unload':
      engineLife.unload(turn, message.job);
      return;
    case 'measure':
      preflight.measure(turn, message);
      return;
    case 'verdict':
      preflight.judged(turn.state, message);
      return;
    case 'reject':
      log(turn, 'error', 'the coordinator refuses this worker', { reason: message.reason });
      return;
    default:
      break;
  }
  const { run } = turn.state;
  if (run === undefined || run.job !== message.job || run.unloading) return;
  switch (message.kind) {
    case 'prepare':
      generation.prepare(turn, run, message);
      break;
    case 'start':
      generation.start(turn, run, message);
      break;
    case 'finish':
      finish.finish(turn, run);
      break;
    case 'acknowledge':
      step.acknowledged(turn, run, message.reportsBelow);
      break;
    case 'takeSnapshot':
      snapshot.takeSnapshot(turn, run, message);
      break;
    case 'writeShard':
      snapshot.writeShard(turn, run, message);
      break;
    case 'publishCheckpoint':
      snapshot.publish(turn, run, message);
      break;
    case 'releaseSnapshot':
      snapshot.releaseSnapshot(turn, run, message);
      break;
    case 'removeCheckpoint':
      snapshot.removeCheckpoint(turn, run, message);
      break;
  }
}

/** Answers that are made from the state that the engine had when it was asked. */
const TELLS_OF_STATE: ReadonlySet<EngineEvent['event']> = new Set([
  'buckets',
  'partial',
  'digest',
  'evaluated',
  'exported',
  'state_exported',
  'state_imported',
  'snapshot_taken',
]);

function engineEvent(turn: Turn, run: JobRun, event: EngineEvent): void {
  const objection = objectionTo(run, turn.state.identity.machine.memoryBytes, event);
  if (objection !== undefined) {
    const message = `the engine said ${event.event}: ${objection}`;
    engineLife.failRun(turn, run, { phase: 'control', failure: 'engine', message, traceback: '' });
    return;
  }
  run.busySinceMs = turn.nowMs;
  const [asked] = run.outstanding;
  const { committed, stale } = asked ?? { committed: 0, stale: false };
  if (asked !== undefined && event.event === 'partial') asked.partials -= 1;
  if (asked !== undefined && event.event === 'microbatch') asked.microbatches -= 1;
  if (!ENDS_NOTHING.has(event.event)) {
    run.outstanding.shift();
    generation.fetchIfFree(turn, run);
  }
  if (stale && TELLS_OF_STATE.has(event.event)) return;
  switch (event.event) {
    case 'started':
      engineLife.engineStarted(turn, run, event);
      break;
    case 'loaded':
      engineLife.engineLoaded(turn, run, event);
      break;
    case 'buckets':
      step.bucketsComputed(turn, run, event);
      break;
    case 'partial':
      step.partialComputed(turn, run, event);
      break;
    case 'applied':
      step.applied(turn, run, event);
      break;
    case 'digest':
      if (run.facts === undefined) engineLife.initialDigest(turn, run, event.state);
      else finish.digestComputed(turn, run, committed, event.weights, event.state);
      break;
    case 'evaluated':
      finish.evaluated(turn, run, committed, event.metrics);
      break;
    case 'exported':
      finish.exported(run, event);
      break;
    case 'state_exported':
      generation.stateExported(turn, run, committed, event);
      break;
    case 'snapshot_taken':
      snapshot.snapshotTaken(turn, run, committed, event);
      break;
    case 'state_imported':
      generation.stateImported(turn, run);
      break;
    case 'failed':
      engineLife.failRun(turn, run, {
        phase: event.phase,
        failure: event.kind,
        message: event.message,
        traceback: event.traceback,
      });
      break;
    case 'computed':
      planAhead(run);
      break;
    case 'microbatch':
    case 'finished':
      break;
  }
}

function dataPlaneEvent(
  turn: Turn,
  run: JobRun,
  event: Extract<WorkerEvent, { kind: 'data_plane_event' }>['event'],
): void {
  switch (event.kind) {
    case 'reduced':
      step.reduced(turn, run, event);
      break;
    case 'state_fetched':
      generation.stateFetched(turn, run, event);
      break;
    case 'state_corrupt':
      restore.stateCorrupt(turn, run, event);
      break;
    case 'peer_failed':
      generation.peerFailed(turn, run, event);
      break;
  }
}

function checkpointEvent(turn: Turn, event: CheckpointEvent): void {
  const { run } = turn.state;
  switch (event.kind) {
    case 'shard_written':
    case 'published':
    case 'save_failed':
    case 'removed':
      snapshot.saveProgressed(turn, event);
      return;
    default:
      break;
  }
  if (run?.job !== event.job || run.unloading) return;
  switch (event.kind) {
    case 'part_restored':
      generation.partArrived(turn, run, event);
      break;
    case 'restore_failed':
      restore.restoreFailed(turn, run, event);
      break;
    case 'restore_progressed':
      restore.restoreProgressed(run, event);
      break;
  }
}
