/** How often something may be done: so many times at once, and then once in each such time. */
export interface Allowed {
  readonly atOnce: number;
  readonly everyMs: number;
}

export class Allowance {
  #left: number;
  #countedMs: number;

  constructor(
    private readonly allowed: Allowed,
    private readonly nowMs: () => number,
  ) {
    this.#left = allowed.atOnce;
    this.#countedMs = nowMs();
  }

  /** False: not now. */
  take(): boolean {
    const { atOnce, everyMs } = this.allowed;
    const passed = Math.floor((this.nowMs() - this.#countedMs) / everyMs);
    this.#countedMs += passed * everyMs;
    this.#left = Math.min(atOnce, this.#left + passed);
    if (this.#left === 0) return false;
    this.#left -= 1;
    return true;
  }
}
