/** A leader with jobs and workers, as its core would hold them, without any of the ways there. */

import { enter } from '../../../coordinator/core/assignment.js';
import { newRun } from '../../../coordinator/core/jobs.js';
import { NOTHING_SPENT } from '../../../coordinator/core/spent.js';
import {
  type CoordinatorState,
  DEFAULT_SETTINGS,
  initialState,
  type JobRecord,
  type JobRun,
} from '../../../coordinator/core/state.js';
import { parseJobSpec } from '../../../shared/job_spec.js';
import type { JobEvent, LogEntry } from '../../../shared/wire/jobs.js';
import { knownWorker } from '../core/known_worker.js';

export const SPEC = parseJobSpec('{version: 1, name: x, task: "a.py:A", steps: 1000000, batch: 4, microbatches: 2}');

export function leadingState(term = 1): CoordinatorState {
  const state = initialState({ ...DEFAULT_SETTINGS, name: 'c1' });
  state.leading = { term, eventCounter: 0, operationCounter: 0, saveCounter: 0 };
  return state;
}

export function addJob(state: CoordinatorState, job: string): JobRun {
  const record: JobRecord = {
    ...{ job, operationId: job, bundle: '/b', output: '/o', checkpoints: '/c', resumedFrom: '', spec: SPEC },
    ...{ submittedMs: 0, state: 'running', reason: '', traceback: '', weightsDigest: '', metrics: {}, facts: null },
    progress: { committed: 0, loss: null, samplesLost: 0, samplesRepeated: 0 },
    restores: { count: 0, committed: 0 },
    user: 'ann',
    spent: NOTHING_SPENT,
  };
  const run = newRun(record, undefined, { kind: 'gathering', sinceMs: 0 });
  state.jobs.set(job, run);
  return run;
}

export function addWorker(state: CoordinatorState, name: string, job?: string): void {
  enter(state, knownWorker(name, job));
}

export function logEntry(timeMs: number, text: string): LogEntry {
  const printed = { timeMs, worker: 'w1', stream: 'stdout', text, attempt: 1, generation: 1, step: 0 };
  return { ...printed, number: timeMs, incarnation: 'w1#1' };
}

export type StepCommitted = Extract<JobEvent, { kind: 'stepCommitted' }>;

/** Written out: a test that makes a million of them would wait for spreads. */
export function stepEvent(step: number, sequence: number, loss = 1 / (step + 1), job = 'a'): StepCommitted {
  return {
    kind: 'stepCommitted',
    job,
    sequence,
    timeMs: 1_000_000 + step,
    step,
    epoch: 0,
    loss,
    generation: 1,
    samples: 4,
    stepMs: 10,
    dataMs: 0.5,
    computeMs: 5.5,
    reduceMs: 1.75,
    gatherMs: 0.25,
    applyMs: 1,
    steps: 1_000_000,
    pulledBytes: 100,
    skipped: false,
  };
}

/** The core's way of adding an event, with its bound. */
export function addStep(run: JobRun, step: number): void {
  run.events.add(stepEvent(step, run.events.newest + 1, 1 / (step + 1), run.record.job));
  if (run.events.length > DEFAULT_SETTINGS.eventLimit) run.events.forget(DEFAULT_SETTINGS.eventLimit / 10);
  run.record = { ...run.record, progress: { ...run.record.progress, committed: step + 1, loss: 1 / (step + 1) } };
}
