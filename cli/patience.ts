/** How long to go on trying after something failed, and how long to wait in between. */

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 1000;

export class Patience {
  #untilMs: number | undefined;
  #pauseMs = FIRST_PAUSE_MS;

  constructor(
    private readonly limitMs: number,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** It works again: the next failure is a first one. */
  reset(): void {
    this.#untilMs = undefined;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  /** Called at a failure. Milliseconds to wait before the next try, or undefined when the time that began with the first failure is over. */
  nextPauseMs(): number | undefined {
    const now = this.nowMs();
    this.#untilMs ??= now + this.limitMs;
    const pauseMs = this.#pauseMs;
    if (now + pauseMs > this.#untilMs) return undefined;
    this.#pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
    return pauseMs;
  }
}
