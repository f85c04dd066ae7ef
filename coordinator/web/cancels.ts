/** Cancels that pages have asked for, until the core answers. */
import { nanoid } from 'nanoid';
import type { CoordinatorEvent } from '../core/event.js';

const MAX_WAITING = 100;

export type CancelDone = (error: string) => void;

export class Cancels {
  readonly #dispatch: (event: CoordinatorEvent) => void;
  readonly #waiting = new Map<string, CancelDone>();

  constructor(dispatch: (event: CoordinatorEvent) => void) {
    this.#dispatch = dispatch;
  }

  /** `done` is called with what went wrong, or with an empty text. */
  begin(job: string, checkpoint: boolean, done: CancelDone): void {
    if (this.#waiting.size >= MAX_WAITING) {
      done('too many requests wait already; try again');
      return;
    }
    const request = `page-${nanoid()}`;
    this.#waiting.set(request, done);
    this.#dispatch({ kind: 'cancel', request, job, checkpoint });
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
      this.answer(request, 'this coordinator leads no more; look whether the job has ended and try again');
    }
  }
}
