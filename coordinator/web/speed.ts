/** How fast a job goes, over its last seconds. */

const WINDOW_MS = 15_000;
/** A mark is kept at most every so many milliseconds, so that their number is bounded whatever the rate. */
const MARK_MS = 250;

interface Mark {
  readonly timeMs: number;
  readonly steps: number;
  readonly samples: number;
  /** Sum of the times of those steps. */
  readonly stepsMs: number;
}

export interface Rate {
  readonly stepsPerSecond: number;
  readonly samplesPerSecond: number;
}

export class Speed {
  readonly #marks: Mark[] = [];
  #steps = 0;
  #samples = 0;
  #stepsMs = 0;
  #newestMs = 0;

  /** `timeMs`: when it was reported. `stepMs`: how long it took. */
  add(timeMs: number, samples: number, stepMs: number): void {
    this.#steps += 1;
    this.#samples += samples;
    this.#stepsMs += stepMs;
    // The clock was set back: what was before cannot be compared.
    if (timeMs < this.#newestMs) this.#marks.length = 0;
    this.#newestMs = timeMs;
    const last = this.#marks.at(-1);
    if (last !== undefined && timeMs - last.timeMs < MARK_MS) return;
    this.#marks.push({ timeMs, steps: this.#steps, samples: this.#samples, stepsMs: this.#stepsMs });
    while (this.#marks.length > 2 && (this.#marks[0]?.timeMs ?? 0) < timeMs - WINDOW_MS) this.#marks.shift();
  }

  /** Undefined until there are two steps some time apart. A job that stands still becomes slower while one looks. */
  rate(nowMs: number): Rate | undefined {
    const first = this.#marks[0];
    if (first === undefined || this.#steps <= first.steps) return undefined;
    const steps = this.#steps - first.steps;
    // What was trained while no coordinator led is reported all at once to the next: it took as long as its steps did.
    const secondsOfSteps = Math.max(this.#newestMs - first.timeMs, this.#stepsMs - first.stepsMs) / 1000;
    if (secondsOfSteps <= 0) return undefined;
    // Time since the newest step counts once it is longer than two steps take: until then the next may just be due.
    const stillSeconds = (nowMs - this.#newestMs) / 1000;
    const seconds = secondsOfSteps + Math.max(0, stillSeconds - (2 * secondsOfSteps) / steps);
    return { stepsPerSecond: steps / seconds, samplesPerSecond: (this.#samples - first.samples) / seconds };
  }
}
