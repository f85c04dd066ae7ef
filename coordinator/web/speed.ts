/** How fast a job goes, over its last seconds. */

const WINDOW_MS = 15_000;
/** A mark is kept at most every so many milliseconds, so that their number is bounded whatever the rate. */
const MARK_MS = 250;

interface Mark {
  readonly timeMs: number;
  readonly steps: number;
  readonly samples: number;
}

export interface Rate {
  readonly stepsPerSecond: number;
  readonly samplesPerSecond: number;
}

export class Speed {
  readonly #marks: Mark[] = [];
  #steps = 0;
  #samples = 0;
  #newestMs = 0;

  add(timeMs: number, samples: number): void {
    this.#steps += 1;
    this.#samples += samples;
    // The clock was set back: what was before cannot be compared.
    if (timeMs < this.#newestMs) this.#marks.length = 0;
    this.#newestMs = timeMs;
    const last = this.#marks.at(-1);
    if (last !== undefined && timeMs - last.timeMs < MARK_MS) return;
    this.#marks.push({ timeMs, steps: this.#steps, samples: this.#samples });
    while (this.#marks.length > 2 && (this.#marks[0]?.timeMs ?? 0) < timeMs - WINDOW_MS) this.#marks.shift();
  }

  /** Undefined until there are two steps some time apart. A job that stands still becomes slower while one looks. */
  rate(nowMs: number): Rate | undefined {
    const first = this.#marks[0];
    if (first === undefined || this.#steps <= first.steps) return undefined;
    const steps = this.#steps - first.steps;
    const secondsOfSteps = (this.#newestMs - first.timeMs) / 1000;
    if (secondsOfSteps <= 0) return undefined;
    // Time since the newest step counts once it is longer than two steps take: until then the next may just be due.
    const stillSeconds = (nowMs - this.#newestMs) / 1000;
    const seconds = secondsOfSteps + Math.max(0, stillSeconds - (2 * secondsOfSteps) / steps);
    return { stepsPerSecond: steps / seconds, samplesPerSecond: (this.#samples - first.samples) / seconds };
  }
}
