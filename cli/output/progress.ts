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

interface Mark {
  readonly timeMs: number;
  readonly samples: number;
  readonly done: number;
  /** Sum of the times of the steps so far. */
  readonly stepsMs: number;
}

/** Uses the times in the events and no clock, so a job that is watched from its past shows the speed that it had. */
export class Progress {
  readonly #marks: Mark[] = [];
  #samples = 0;
  #stepsMs = 0;

  step(event: StepCommitted): ProgressNow {
    this.#samples += event.samples;
    this.#stepsMs += event.stepMs;
    const done = event.step + 1;
    // Another leader's clock is behind, or it has restored an earlier step: what was before cannot be compared.
    const last = this.#marks.at(-1);
    if (last !== undefined && (event.timeMs < last.timeMs || done <= last.done)) this.#marks.length = 0;
    this.#marks.push({ timeMs: event.timeMs, samples: this.#samples, done, stepsMs: this.#stepsMs });
    const oldestMs = event.timeMs - WINDOW_MS;
    while (this.#marks.length > 2 && (this.#marks.length > MAX_MARKS || (this.#marks[0]?.timeMs ?? 0) < oldestMs)) {
      this.#marks.shift();
    }
    const first = this.#marks[0];
    // What was trained while no coordinator led is reported all at once to the next: it took as long as its steps did.
    const seconds =
      first === undefined ? 0 : Math.max(event.timeMs - first.timeMs, this.#stepsMs - first.stepsMs) / 1000;
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
