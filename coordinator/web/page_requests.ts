/** What pages have asked of the core, until it answers. */
import { nanoid } from 'nanoid';
import type { CoordinatorEvent } from '../core/event.js';

const MAX_WAITING = 100;

export type Done = (error: string) => void;

export class PageRequests {
  readonly #dispatch: (event: CoordinatorEvent) => void;
  readonly #waiting = new Map<string, Done>();

  constructor(dispatch: (event: CoordinatorEvent) => void) {
    this.#dispatch = dispatch;
  }

  /** `done` is called with what went wrong, or with an empty text. */
  begin(eventOf: (request: string) => CoordinatorEvent, done: Done): void {
    if (this.#waiting.size >= MAX_WAITING) {
      done('too many requests wait already; try again');
      return;
    }
    const request = `page-${nanoid()}`;
    this.#waiting.set(request, done);
    this.#dispatch(eventOf(request));
  }

  /** An answer of the core; those that are for others are ignored. */
  answer(request: string, error: string): void {
    const done = this.#waiting.get(request);
    this.#waiting.delete(request);
    done?.(error);
  }

  /** Nobody answers any more. */
  abandon(): void {
    for (const request of [...this.#waiting.keys()]) {
      this.answer(request, 'this coordinator leads no more; look what has become of it and try again');
    }
  }
}
