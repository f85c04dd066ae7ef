/** How far a job is and how fast it goes, from its events. */
import type { JobEvent } from '../../shared/wire/jobs.js';

/** The speed is that of the last so many milliseconds. */
const WINDOW_MS = 10_000;
const MAX_MARKS = 4096;

type StepCommitted = Extract<JobEvent, { kind: 'stepCommitted' }>;

export interface ProgressNow {
  /** Steps committed. */
  readonly done: number;
  /** Steps of the whole job. */
  readonly total: number;
  readonly epoch: number;
  readonly loss: number;
  /** Undefined until two steps have been seen. */
  readonly samplesPerSecond: number | undefined;
  readonly secondsLeft: number | undefined;
}

/** Uses the times in the events and no clock, so a job that is watched from its past shows the speed that it had. */
export class Progress {
  readonly #marks: { readonly timeMs: number; readonly samples: number; readonly done: number }[] = [];
  #samples = 0;

  step(event: StepCommitted): ProgressNow {
    this.#samples += event.samples;
    const done = event.step + 1;
    this.#marks.push({ timeMs: event.timeMs, samples: this.#samples, done });
    const oldestMs = event.timeMs - WINDOW_MS;
    while (this.#marks.length > 2 && (this.#marks.length > MAX_MARKS || (this.#marks[0]?.timeMs ?? 0) < oldestMs)) {
      this.#marks.shift();
    }
    const first = this.#marks[0];
    const seconds = first === undefined ? 0 : (event.timeMs - first.timeMs) / 1000;
    const known = first !== undefined && seconds > 0 && done > first.done;
    return {
      done,
      total: event.steps,
      epoch: event.epoch,
      loss: event.loss,
      samplesPerSecond: known ? (this.#samples - first.samples) / seconds : undefined,
      secondsLeft: known ? ((event.steps - done) * seconds) / (done - first.done) : undefined,
    };
  }
}
