/** Counts frames that were not taken, by reason, and logs the totals at most once a second. */

const LOG_INTERVAL_MS = 1000;

export class DropCounter {
  readonly #totals = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly log: (line: string) => void) {}

  count(reason: string): void {
    this.#totals.set(reason, (this.#totals.get(reason) ?? 0) + 1);
    this.#timer ??= setTimeout(() => this.#report(), LOG_INTERVAL_MS).unref();
  }

  #report(): void {
    this.#timer = undefined;
    const totals = [...this.#totals].map(([reason, count]) => `${reason} ${count}`).join(', ');
    this.log(`frames dropped since the start: ${totals}`);
  }
}
