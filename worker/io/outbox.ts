/**
 * What a session has to say and has not said. What comes in one turn of the event loop goes out together at its end, and what comes while
 * that is under way goes together after it: a message of gRPC costs both ends several times what a report in it does.
 */
import { MOST_TOGETHER } from '../../shared/wire/session.js';

/** Sent together, unless one alone is larger. */
const MOST_BYTES = 65_536;

export class Outbox {
  readonly #write: (bytes: Buffer, written: () => void) => void;
  #waiting: Buffer[] = [];
  /** Something is under way, or goes at the end of this turn. */
  #busy = false;

  /** `write` calls `written` when it takes more; a stream that has ended never does. */
  constructor(write: (bytes: Buffer, written: () => void) => void) {
    this.#write = write;
  }

  /** Messages that have not been written. */
  get length(): number {
    return this.#waiting.length;
  }

  add(message: Buffer): void {
    this.#waiting.push(message);
    if (this.#busy) return;
    this.#busy = true;
    queueMicrotask(() => this.#next());
  }

  /** Writes all that waits, whatever is under way: nothing is added after that. */
  flush(): void {
    while (this.#waiting.length > 0) this.#write(this.#take(), () => undefined);
  }

  #next(): void {
    this.#busy = this.#waiting.length > 0;
    if (this.#busy) this.#write(this.#take(), () => this.#next());
  }

  #take(): Buffer {
    let count = 0;
    let bytes = 0;
    for (const { length } of this.#waiting.slice(0, MOST_TOGETHER)) {
      if (count > 0 && bytes + length > MOST_BYTES) break;
      count += 1;
      bytes += length;
    }
    return Buffer.concat(this.#waiting.splice(0, count), bytes);
  }
}
