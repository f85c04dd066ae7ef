/** Writes in order, each until its outcome is known or its deadline is over, as coordinator/io/store.ts does it. */
import type { Put } from '../../coordinator/core/state.js';
import type { Marker } from './etcd.js';
import type { SimulatedProcess } from './process.js';

const WRITE_DEADLINE_MS = 5_000;
const RETRY_MS = 100;

export interface Write {
  readonly term: number;
  readonly operation: string;
  readonly puts: readonly Put[];
}

type Outcome = 'stored' | 'fenced' | 'failed';

interface Queued {
  readonly write: Write;
  readonly failuresBefore: number;
  readonly done: (outcome: Outcome) => void;
}

export class Store {
  readonly #queue: Queued[] = [];
  #busy = false;
  #failures = 0;
  #marker = { term: -1, revision: 0 };

  constructor(private readonly process: SimulatedProcess) {}

  get waiting(): number {
    return this.#queue.length;
  }

  write(write: Write, done: (outcome: Outcome) => void): void {
    this.#queue.push({ write, failuresBefore: this.#failures, done });
    this.#next();
  }

  #next(): void {
    const next = this.#queue[0];
    if (this.#busy || next === undefined) return;
    this.#queue.shift();
    this.#busy = true;
    if (next.failuresBefore !== this.#failures) {
      this.process.later(0, () => this.#finish(next, 'failed'));
      return; // Abandoned: never tried.
    }
    if (this.#marker.term !== next.write.term) this.#marker = { term: next.write.term, revision: 0 };
    this.#attempt(next, this.process.nowMs + WRITE_DEADLINE_MS);
  }

  #finish(queued: Queued, outcome: Outcome): void {
    this.#busy = false;
    queued.done(outcome);
    this.#next();
  }

  #attempt(queued: Queued, deadlineMs: number): void {
    const { etcd } = this.process.world;
    const { term, operation, puts } = queued.write;
    etcd.call(
      this.process,
      () => {
        const stored = etcd.transact(term, this.#marker.revision, operation, puts);
        return { stored, revision: etcd.revision, leader: etcd.leader?.createRevision, marker: etcd.markers.get(term) };
      },
      (result) => {
        if (result.kind === 'ok') {
          const { stored, revision, leader, marker } = result.value;
          if (stored) this.#marker = { term, revision };
          if (stored) this.#finish(queued, 'stored');
          else this.#whyNot(queued, deadlineMs, leader, marker);
        } else if (result.mayHaveHappened && this.process.nowMs < deadlineMs) {
          this.process.later(RETRY_MS, () => this.#attempt(queued, deadlineMs));
        } else this.#fail(queued);
      },
    );
  }

  #whyNot(queued: Queued, deadlineMs: number, leader: number | undefined, marker: Marker | undefined): void {
    const { term, operation } = queued.write;
    if (marker?.operation === operation) {
      this.#marker = { term, revision: marker.revision };
      this.#finish(queued, 'stored');
    } else if (leader !== term) this.#finish(queued, 'fenced');
    else if (marker !== undefined && marker.revision > this.#marker.revision) {
      this.#marker = { term, revision: marker.revision };
      this.#attempt(queued, deadlineMs);
    } else this.#fail(queued);
  }

  /** What was queued before this became known is not tried. */
  #fail(queued: Queued): void {
    this.#failures += 1;
    this.#finish(queued, 'failed');
  }
}
