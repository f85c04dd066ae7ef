/** Logs a failure that goes on once, not at every attempt: again only when its reason changes, and once when it is over. */
import type { EtcdLog } from './client.js';

export class FailureLog {
  readonly #log: EtcdLog;
  readonly #what: string;
  readonly #fields: Readonly<Record<string, unknown>>;
  #lastReason: string | undefined;
  #failures = 0;

  /** `what` is the work that fails, as in "watch of workers/". */
  constructor(log: EtcdLog, what: string, fields: Readonly<Record<string, unknown>> = {}) {
    this.#log = log;
    this.#what = what;
    this.#fields = fields;
  }

  failed(error: unknown): void {
    this.#failures += 1;
    const reason = String(error);
    if (reason === this.#lastReason) return;
    this.#lastReason = reason;
    this.#log.warn(`${this.#what} failed, trying again`, { ...this.#fields, error: reason });
  }

  succeeded(): void {
    if (this.#failures === 0) return;
    this.#log.info(`${this.#what} works again`, { ...this.#fields, failures: this.#failures });
    this.#failures = 0;
    this.#lastReason = undefined;
  }
}
