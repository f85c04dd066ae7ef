/** Whoever has named wrong tokens several times is not listened to for a while. */

const MAX_FAILURES = 10;
const PERIOD_MS = 60_000;
/** The oldest is forgotten when there are more. */
const MAX_ADDRESSES = 1_000;

interface Failures {
  count: number;
  readonly sinceMs: number;
}

export class FailedLogins {
  readonly #failures = new Map<string, Failures>();

  /** Seconds until `address` may try again; 0 for at once. */
  waitSeconds(address: string, nowMs: number): number {
    const failures = this.#failures.get(address);
    if (failures === undefined) return 0;
    const endsMs = failures.sinceMs + PERIOD_MS;
    if (nowMs >= endsMs) this.#failures.delete(address);
    return nowMs >= endsMs || failures.count < MAX_FAILURES ? 0 : Math.ceil((endsMs - nowMs) / 1000);
  }

  failed(address: string, nowMs: number): void {
    const failures = this.#failures.get(address);
    if (failures !== undefined && nowMs < failures.sinceMs + PERIOD_MS) {
      failures.count += 1;
      return;
    }
    this.#failures.delete(address);
    this.#failures.set(address, { count: 1, sinceMs: nowMs });
    const [oldest] = this.#failures.keys();
    if (this.#failures.size > MAX_ADDRESSES && oldest !== undefined) this.#failures.delete(oldest);
  }
}
