/** One turn of the core: an event comes in, commands go out. What every part of the core uses to speak. */
import { type PlanShape, stepsPerEpoch } from '../../shared/plan.js';
import type { EngineFacts, Holding, SnapshotFacts, WorkerMessage } from '../../shared/wire/session.js';
import type { CoreCheckpointCommand, CoreDataPlaneCommand, WorkerCommand } from './command.js';
import type { EngineCommand } from './engine_protocol.js';
import type { JobRun, Labelled, WorkerState } from './state.js';

export interface Turn {
  readonly state: WorkerState;
  readonly nowMs: number;
  readonly wallMs: number;
  readonly commands: WorkerCommand[];
}

/**
 * Without a session the message is dropped: what matters is in the hello of the next one. From the hello on nothing is dropped,
 * whether or not it has been answered.
 */
export function send(turn: Turn, message: WorkerMessage): void {
  if (turn.state.session !== 'down') turn.commands.push({ kind: 'send', message });
}

/** Commands reach the engine in this order and are answered in it. While a state is being fetched they wait for it. */
export function tellEngine(turn: Turn, run: JobRun, command: EngineCommand): void {
  const { committed } = run;
  if (run.healing?.stage === 'fetching') run.healing.deferred.push({ what: command, committed });
  else tellNow(turn, run, { what: command, committed });
}

/** Past a state that is being fetched. */
export function tellNow(turn: Turn, run: JobRun, { what: command, committed }: Labelled<EngineCommand>): void {
  if (run.outstanding.length === 0) run.busySinceMs = turn.nowMs;
  const runs = command.command === 'compute' ? command.runs : [];
  const microbatches = runs.reduce((sum, { length }) => sum + length, 0);
  run.outstanding.push({ what: command.command, committed, partials: runs.length, microbatches, stale: false });
  turn.commands.push({ kind: 'tell_engine', start: run.engineStart, command });
}

export function tellDataPlane(turn: Turn, run: JobRun, command: CoreDataPlaneCommand): void {
  turn.commands.push({ kind: 'tell_data_plane', start: run.engineStart, command });
}

export function tellCheckpoints(turn: Turn, run: JobRun, command: CoreCheckpointCommand): void {
  turn.commands.push({ kind: 'tell_checkpoints', start: run.engineStart, command });
}

export function log(
  turn: Turn,
  level: 'info' | 'warn' | 'error',
  message: string,
  fields: Readonly<Record<string, string | number>> = {},
): void {
  turn.commands.push({ kind: 'log', level, message, fields });
}

/** For lines about a job that the worker may not have any more when they are written. */
export function aboutRun({ job, committed, generation }: JobRun): Readonly<Record<string, string | number>> {
  return { job, step: committed, generation };
}

export function planShapeOf(run: JobRun, facts: Pick<EngineFacts, 'datasetLength'>): PlanShape {
  const { seed, batch, microbatches, tail, shuffle } = run.spec;
  return { seed, batch, microbatches, tail, shuffle, datasetLength: facts.datasetLength };
}

/** Steps of the whole job. */
export function totalSteps(run: JobRun, facts: EngineFacts): number {
  return run.spec.steps ?? (run.spec.epochs ?? 0) * stepsPerEpoch(planShapeOf(run, facts));
}

function snapshotOf({ snapshot }: JobRun): SnapshotFacts | undefined {
  if (snapshot?.bytes === undefined) return undefined;
  return { committed: snapshot.committed, bytes: snapshot.bytes };
}

export function holdingOf(run: JobRun): Holding {
  return {
    job: run.job,
    generation: run.generation,
    committed: run.committed,
    // While it is being imported nothing is lost any more: all that the engine is told now comes after the import.
    hasState: run.facts !== undefined && run.healing?.stage !== 'fetching',
    facts: run.facts,
    engineStart: run.engineStart,
    started: run.started,
    snapshot: snapshotOf(run),
    attempt: run.attempt,
  };
}
