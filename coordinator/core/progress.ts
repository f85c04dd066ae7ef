/** Steps as they are reported, the audit that is folded over them, and the way from the last step to the finished model. */
import { auditStep } from '../../shared/consumption.js';
import { medianOf } from '../../shared/median.js';
import { epochOf, type PlanShape, planStep, type StepPlan, samplesOfStep, stepsPerEpoch } from '../../shared/plan.js';
import type { JobSpec } from '../../shared/wire/jobs.js';
import type { EngineFacts, WorkerMessage } from '../../shared/wire/session.js';
import { accountStep } from './accounting.js';
import { assignedTo } from './assignment.js';
import type { JobRun, Worker } from './state.js';
import { emit, keep, logJob, nextSequence, sendAll, type Turn, write } from './turn.js';

type Message<K extends WorkerMessage['kind']> = Extract<WorkerMessage, { kind: K }>;

const STEP_TIMES_KEPT = 101;
const PROGRESS_STORE_MS = 1_000;

export function planShapeOf(spec: JobSpec, facts: EngineFacts): PlanShape {
  const { seed, batch, microbatches, tail, shuffle } = spec;
  return { seed, batch, microbatches, tail, shuffle, datasetLength: facts.datasetLength };
}

/** Steps of the whole job; 0 until the length of the data set is known. */
export function totalSteps(run: JobRun): number {
  const { spec, facts } = run.record;
  if (spec.steps !== undefined) return spec.steps;
  if (facts === null) return 0;
  return (spec.epochs ?? 0) * stepsPerEpoch(planShapeOf(spec, facts));
}

/** Every step is reported, and made by all of them: after a restore they may still have some to make again. */
export function allCommitted(run: JobRun, members: () => readonly Worker[]): boolean {
  const steps = totalSteps(run);
  return steps > 0 && run.record.progress.committed >= steps && members().every(({ committed }) => committed >= steps);
}

export function stepCommitted(turn: Turn, run: JobRun, worker: Worker, message: Message<'stepCommitted'>): void {
  worker.committed = Math.max(worker.committed, message.step + 1);
  const { progress, facts, spec } = run.record;
  if (message.step > progress.committed) {
    run.reportedAhead = Math.min(run.reportedAhead ?? message.step, message.step);
  }
  if (run.ending || facts === null) return;
  if (message.step < progress.committed) stepRedone(turn, run, facts, message);
  if (message.step !== progress.committed) return;
  run.reportedAhead = undefined;
  const plan = planStep(planShapeOf(spec, facts), message.step);
  const consumption = auditStep(plan, message.consumed);
  run.record = {
    ...run.record,
    progress: {
      committed: message.step + 1,
      loss: lossOf(message),
      samplesLost: progress.samplesLost + consumption.lost,
      samplesRepeated: progress.samplesRepeated + consumption.repeated,
    },
  };
  accountStep(run, message, false);
  noteStep(turn, run, message, plan);
  storeProgress(turn, run);
}

/** Most steps are followed by nothing but the next one. What becomes due with time is seen at the next tick. */
export function leadsOn(run: JobRun): boolean {
  const { formation, saving, record } = run;
  const isSaving = saving.save !== undefined || saving.asked !== undefined;
  return formation.kind !== 'started' || isSaving || record.progress.committed >= totalSteps(run);
}

/** After a restore: what was reported before is made again. It is no news for the audit, but a sign of life, and users see it. */
function stepRedone(turn: Turn, run: JobRun, facts: EngineFacts, message: Message<'stepCommitted'>): void {
  if (run.formation.kind !== 'started' || run.formation.record.generation !== message.generation) return;
  if (message.step < run.redoing) return; // Said again after a change of session or generation.
  run.redoing = message.step + 1;
  accountStep(run, message, true);
  const shape = planShapeOf(run.record.spec, facts);
  noteStep(turn, run, message, { epoch: epochOf(shape, message.step), count: samplesOfStep(shape, message.step) });
  if (turn.nowMs - run.progressStoredMs < PROGRESS_STORE_MS) return;
  run.progressStoredMs = turn.nowMs;
  acknowledge(turn, run);
}

function noteStep(
  turn: Turn,
  run: JobRun,
  message: Message<'stepCommitted'>,
  { epoch, count: samples }: Pick<StepPlan, 'epoch' | 'count'>,
): void {
  const { formation } = run;
  run.crashes.clear();
  // Reports of older generations are no news of what this one restores.
  if (formation.kind === 'started' && formation.restores && formation.record.generation === message.generation) {
    run.formation = { ...formation, restores: undefined };
  }
  noteTime(turn, run, message);
  keep(turn, run, {
    kind: 'stepCommitted',
    sequence: nextSequence(turn),
    timeMs: turn.wallMs,
    job: run.record.job,
    step: message.step,
    epoch,
    loss: lossOf(message),
    generation: message.generation,
    samples,
    stepMs: message.stepMs,
    computeMs: message.computeMs,
    reduceMs: message.reduceMs,
    applyMs: message.applyMs,
    dataMs: message.dataMs,
    gatherMs: message.gatherMs,
    steps: totalSteps(run),
    pulledBytes: message.pulledBytes,
    skipped: message.skipped,
  });
}

function lossOf({ loss, weight }: Message<'stepCommitted'>): number {
  return weight > 0 ? loss / weight : Number.NaN;
}

/**
 * Everybody has said all that is known, and still the next report is missing: the workers that had it are lost, with whichever
 * coordinator had heard it, though their state lives on in others. The job must not wait for it for ever.
 */
export function giveUpLostReports(turn: Turn, run: JobRun, committed: number): void {
  const { progress } = run.record;
  const next = Math.min(run.reportedAhead ?? committed, committed);
  if (next <= progress.committed) return;
  logJob(turn, run, 'error', 'reports of steps are lost: these steps are done and cannot be audited', {
    first: progress.committed,
    last: next - 1,
  });
  run.record = { ...run.record, progress: { ...progress, committed: next } };
  run.reportedAhead = undefined;
}

/** Pauses are measured from the last commit of the old generation to the first of the new one, less a median step. */
function noteTime(turn: Turn, run: JobRun, message: Message<'stepCommitted'>): void {
  const started = run.formation.kind === 'started' ? run.formation.record.generation : undefined;
  if (run.pause !== undefined && message.generation === started) {
    const pauseMs = Math.max(0, turn.nowMs - run.pause.sinceMs - medianOf(run.stepTimesMs));
    emit(turn, run, { kind: 'recovered', generation: message.generation, step: message.step, pauseMs });
    run.pause = undefined;
  } else {
    run.stepTimesMs.push(message.stepMs);
    if (run.stepTimesMs.length > STEP_TIMES_KEPT) run.stepTimesMs.shift();
  }
  run.lastCommitMs = turn.nowMs;
}

function storeProgress(turn: Turn, run: JobRun): void {
  if (turn.nowMs - run.progressStoredMs < PROGRESS_STORE_MS) return;
  run.progressStoredMs = turn.nowMs;
  write(turn, { kind: 'progress', job: run.record.job, committed: run.record.progress.committed });
}

/** Reports below `committed` are in etcd: the workers may forget them. */
export function progressStored(turn: Turn, run: JobRun, committed: number): void {
  run.storedCommitted = Math.max(run.storedCommitted, committed);
  acknowledge(turn, run);
}

function acknowledge(turn: Turn, run: JobRun): void {
  const loaded = assignedTo(turn.state, run.record.job).filter((worker) => worker.facts !== undefined);
  sendAll(turn, loaded, { kind: 'acknowledge', job: run.record.job, reportsBelow: run.storedCommitted });
}

export function evaluated(turn: Turn, run: JobRun, message: Message<'evaluated'>): void {
  emit(turn, run, { kind: 'evaluated', step: message.committed, metrics: message.metrics });
}
