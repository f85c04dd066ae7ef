/** Pauses between attempts: growing, bounded, and random, so that many processes that failed together do not return together. */
import { setTimeout as delay } from 'node:timers/promises';

export interface BackOffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
}

export class BackOff {
  readonly #options: BackOffOptions;
  #nextMs: number;

  constructor(options: BackOffOptions) {
    this.#options = options;
    this.#nextMs = options.firstMs;
  }

  /** Waits between a half and the whole of the current pause and doubles it. Returns early when `signal` aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    const ms = this.#nextMs * (0.5 + Math.random() / 2);
    this.#nextMs = Math.min(this.#nextMs * 2, this.#options.maxMs);
    await pause(ms, signal);
  }

  reset(): void {
    this.#nextMs = this.#options.firstMs;
  }
}

/** Waits `ms`, or less when `signal` aborts. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
}
