/** The engine's life: started for a job, loaded, watched, and gone when the job goes. */

import { medianOf } from '../../shared/median.js';
import type { CoordinatorMessage, EngineFacts, WorkerMessage } from '../../shared/wire/session.js';
import { FIRST_PARTIAL_SLOT, slotBytes } from '../collective/data_plane.js';
import type { EngineEvent, EngineOp } from './engine_protocol.js';
import { stopMeasuring } from './preflight.js';
import { stopRestore } from './restore.js';
import { type JobRun, newRun } from './state.js';
import { aboutRun, log, send, type Turn, tellDataPlane, tellEngine } from './turn.js';

type Failure = Pick<Extract<WorkerMessage, { kind: 'engineFailed' }>, 'phase' | 'failure' | 'message' | 'traceback'>;

/** Time that an operation may take without a sign of life. */
const LONG_OPERATION_MS = 600_000;
const STEP_OPERATION_MS = 30_000;
/** In an engine's first step the user's code may be compiled. */
const FIRST_STEP_OPERATION_MS = 120_000;
const STEP_FACTOR = 10;

export function load(turn: Turn, message: Extract<CoordinatorMessage, { kind: 'load' }>): void {
  if (turn.state.run !== undefined || turn.state.leaving) return; // It said so in its hello; the coordinator unloads first.
  stopMeasuring(turn);
  turn.state.engineStarts += 1;
  const run = newRun(message, turn.state.engineStarts, turn.nowMs);
  turn.state.run = run;
  turn.commands.push({
    kind: 'start_engine',
    start: run.engineStart,
    job: run.job,
    threads: run.spec.threads,
    bundle: run.bundle,
  });
}

/** The engine is killed; that it is gone is told when it has exited. */
export function unload(turn: Turn, job: string): void {
  const { run } = turn.state;
  if (run === undefined || run.job !== job) {
    send(turn, { kind: 'unloaded', job });
    return;
  }
  if (run.unloading) return;
  run.unloading = true;
  stopRestore(turn, run);
  tellDataPlane(turn, run, { kind: 'close_job', job });
  turn.commands.push({ kind: 'kill_engine', start: run.engineStart });
}

export function failRun(turn: Turn, run: JobRun, failure: Failure): void {
  turn.state.run = undefined;
  stopRestore(turn, run);
  tellDataPlane(turn, run, { kind: 'close_job', job: run.job });
  turn.commands.push({ kind: 'kill_engine', start: run.engineStart });
  log(turn, 'error', 'engine failed', {
    ...aboutRun(run),
    attempt: run.attempt,
    phase: failure.phase,
    reason: failure.message,
  });
  send(turn, { kind: 'engineFailed', job: run.job, engineStart: run.engineStart, ...failure });
  if (turn.state.leaving) turn.commands.push({ kind: 'exit' });
}

export function engineExited(turn: Turn, run: JobRun, reason: string): void {
  if (!run.unloading) {
    failRun(turn, run, { phase: 'exit', failure: 'engine', message: `the engine died: ${reason}`, traceback: '' });
    return;
  }
  turn.state.run = undefined;
  send(turn, { kind: 'unloaded', job: run.job });
  if (turn.state.leaving) turn.commands.push({ kind: 'exit' });
}

export function engineStarted(turn: Turn, run: JobRun, event: Extract<EngineEvent, { event: 'started' }>): void {
  const { torch, device, fingerprint } = event;
  run.enginePid = event.pid;
  run.engineStarted = { torch, device, fingerprint };
  const { spec } = run;
  tellEngine(turn, run, {
    command: 'load',
    bundle: run.bundle,
    task: spec.task,
    seed: spec.seed,
    microbatches: spec.microbatches,
    precision: spec.precision,
    exchange: spec.exchange,
    clip_grad_norm: spec.clipGradNorm ?? null,
    on_nonfinite: spec.onNonfinite,
    deterministic: spec.determinism === 'strict',
    params: JSON.parse(spec.paramsJson),
    init_from: spec.initFrom ?? null,
  });
}

export function engineLoaded(turn: Turn, run: JobRun, event: Extract<EngineEvent, { event: 'loaded' }>): void {
  run.layout = {
    vectorBytes: event.vector_bytes,
    bf16Bytes: event.bf16_bytes,
    parameters: event.parameters,
    datasetLength: event.dataset_length,
    datasetDigest: event.dataset_digest,
  };
  tellEngine(turn, run, { command: 'digest' });
}

/** The first digest is that of the initial state; with it the worker can take part. */
export function initialDigest(turn: Turn, run: JobRun, state: string): void {
  const { layout, engineStarted } = run;
  if (layout === undefined || engineStarted === undefined) throw new Error('a digest before the job was loaded');
  const facts = { ...layout, ...engineStarted, initialState: state, enginePid: run.enginePid };
  run.facts = facts;
  const bytes = FIRST_PARTIAL_SLOT * slotBytes(facts.vectorBytes);
  turn.commands.push({ kind: 'reserve_memory', start: run.engineStart, bytes });
  openJob(turn, run, facts);
  send(turn, { kind: 'loaded', job: run.job, facts, engineStart: run.engineStart });
}

export function openJob(turn: Turn, run: JobRun, { vectorBytes, bf16Bytes }: EngineFacts): void {
  const { microbatches } = run.spec;
  tellDataPlane(turn, run, { kind: 'open_job', job: run.job, vectorBytes, bf16Bytes, microbatches });
}

function limitMs(run: JobRun, op: EngineOp): number {
  if (op !== 'compute' && op !== 'apply') return LONG_OPERATION_MS;
  if (run.stepTimesMs.length === 0) return FIRST_STEP_OPERATION_MS;
  return Math.max(STEP_OPERATION_MS, STEP_FACTOR * medianOf(run.stepTimesMs));
}

/** An engine that neither answers nor dies hangs: it is killed. */
export function checkHang(turn: Turn, run: JobRun): void {
  const op = run.facts === undefined && run.outstanding.length === 0 ? 'load' : run.outstanding[0]?.what;
  if (op === undefined || run.unloading) return;
  const busyMs = turn.nowMs - run.busySinceMs;
  if (busyMs <= limitMs(run, op)) return;
  const message = `the engine has not answered ${op} for ${Math.round(busyMs / 1000)} s`;
  failRun(turn, run, { phase: 'hang', failure: 'engine', message, traceback: '' });
}
