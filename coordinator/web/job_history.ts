/** What is kept of a job beyond what the core keeps: its series, its speed, its events without the steps, and totals for /metrics. */

import type { EventRow } from '../../shared/wire/dashboard.js';
import type { JobEvent } from '../../shared/wire/jobs.js';
import type { JobRun } from '../core/state.js';
import { JobSeries } from './series.js';
import { Speed } from './speed.js';

const EVENTS_KEPT = 300;

/** Since this coordinator leads. */
export interface JobTotals {
  steps: number;
  samples: number;
  stepSeconds: number;
  dataSeconds: number;
  computeSeconds: number;
  reduceSeconds: number;
  gatherSeconds: number;
  applySeconds: number;
  pulledBytes: number;
  lastStepSeconds: number;
  generations: number;
  workersLost: number;
  pauses: number;
  pauseSeconds: number;
  checkpoints: number;
  checkpointBytes: number;
  checkpointSeconds: number;
  checkpointFailures: number;
}

export class JobHistory {
  readonly series = new JobSeries();
  readonly speed = new Speed();
  readonly totals: JobTotals = noTotals();
  /** The newest events that are no steps. */
  readonly events: EventRow[] = [];
  /** When something was last added, by the clock of the events. */
  touchedMs = 0;
  /** Sequence number of the next event to be read. */
  #next = 0;

  /** Reads what the core has added since the last call. The core keeps the newest only, so it must be called in time. */
  read(run: JobRun): void {
    for (let event = run.events.from(this.#next); event !== undefined; event = run.events.from(this.#next)) {
      this.#next = event.sequence + 1;
      this.touchedMs = event.timeMs;
      this.#add(event);
    }
  }

  #add(event: JobEvent): void {
    addToTotals(this.totals, event);
    if (event.kind === 'stepCommitted') {
      this.series.add(event);
      this.speed.add(event.timeMs, event.samples, event.stepMs);
      return;
    }
    this.events.push(eventRow(event));
    if (this.events.length > EVENTS_KEPT) this.events.shift();
  }
}

function noTotals(): JobTotals {
  return {
    steps: 0,
    samples: 0,
    stepSeconds: 0,
    dataSeconds: 0,
    computeSeconds: 0,
    reduceSeconds: 0,
    gatherSeconds: 0,
    applySeconds: 0,
    pulledBytes: 0,
    lastStepSeconds: 0,
    generations: 0,
    workersLost: 0,
    pauses: 0,
    pauseSeconds: 0,
    checkpoints: 0,
    checkpointBytes: 0,
    checkpointSeconds: 0,
    checkpointFailures: 0,
  };
}

function addToTotals(totals: JobTotals, event: JobEvent): void {
  switch (event.kind) {
    case 'stepCommitted':
      totals.steps += 1;
      totals.samples += event.samples;
      totals.stepSeconds += event.stepMs / 1000;
      totals.dataSeconds += (event.dataMs ?? 0) / 1000;
      totals.computeSeconds += event.computeMs / 1000;
      totals.reduceSeconds += event.reduceMs / 1000;
      totals.gatherSeconds += (event.gatherMs ?? 0) / 1000;
      totals.applySeconds += event.applyMs / 1000;
      totals.pulledBytes += event.pulledBytes;
      totals.lastStepSeconds = event.stepMs / 1000;
      break;
    case 'generationStarted':
      totals.generations += 1;
      break;
    case 'workerLost':
      totals.workersLost += 1;
      break;
    case 'recovered':
      totals.pauses += 1;
      totals.pauseSeconds += event.pauseMs / 1000;
      break;
    case 'checkpointCommitted':
      totals.checkpoints += 1;
      totals.checkpointBytes += event.bytes;
      totals.checkpointSeconds += event.saveMs / 1000;
      break;
    case 'checkpointFailed':
      totals.checkpointFailures += 1;
      break;
  }
}

/** As JSON can say it: it knows no maps. */
function eventRow(event: Exclude<JobEvent, { kind: 'stepCommitted' }>): EventRow {
  switch (event.kind) {
    case 'evaluated':
      return { ...event, metrics: Object.fromEntries(event.metrics) };
    case 'jobFinished':
      // The traceback is shown once, as part of the job.
      return { ...event, metrics: Object.fromEntries(event.metrics), traceback: '' };
    default:
      return event;
  }
}
