/**
 * The newest events of a job, in the order of their numbers. Nearly all of them are steps, thousands a second of a cluster: those are kept as
 * rows of numbers, because as objects they would be what the garbage collector spends its time on.
 */
import type { JobEvent } from '../../shared/wire/jobs.js';

type StepCommitted = Extract<JobEvent, { kind: 'stepCommitted' }>;

/** Numbers of a step. */
const WIDTH = 16;
const FIRST_ROWS = 32;
const NO_ROWS = new Float64Array(0);

export class EventLog {
  #rows = NO_ROWS;
  #steps = 0;
  /** The events that are no steps. */
  #others: JobEvent[] = [];
  #job = '';
  #newest = 0;

  /** Number of the newest. */
  get newest(): number {
    return this.#newest;
  }

  get length(): number {
    return this.#steps + this.#others.length;
  }

  add(event: JobEvent): void {
    if (event.sequence <= this.#newest) throw new Error(`event ${event.sequence} comes after ${this.#newest}`);
    this.#newest = event.sequence;
    if (event.kind === 'stepCommitted') this.#addStep(event);
    else this.#others.push(event);
  }

  /** The first event at or after a sequence number. */
  from(sequence: number): JobEvent | undefined {
    const step = firstFrom(sequence, this.#steps, (index) => this.#stepNumber(index));
    const other = firstFrom(sequence, this.#others.length, (index) => this.#otherNumber(index));
    return this.#stepNumber(step) < this.#otherNumber(other) ? this.#step(step) : this.#others[other];
  }

  /** Forgets the oldest. */
  forget(count: number): void {
    let [steps, others] = [0, 0];
    while (steps + others < Math.min(count, this.length)) {
      if (this.#stepNumber(steps) < this.#otherNumber(others)) steps += 1;
      else others += 1;
    }
    this.#others.splice(0, others);
    this.#rows.copyWithin(0, steps * WIDTH, this.#steps * WIDTH);
    this.#steps -= steps;
    if (this.#steps === 0) this.#rows = NO_ROWS;
  }

  *[Symbol.iterator](): Iterator<JobEvent> {
    for (let event = this.from(0); event !== undefined; event = this.from(event.sequence + 1)) yield event;
  }

  /** Of one that is not there: above all. */
  #stepNumber(index: number): number {
    return index < this.#steps ? this.#at(index, 0) : Number.POSITIVE_INFINITY;
  }

  #otherNumber(index: number): number {
    return this.#others[index]?.sequence ?? Number.POSITIVE_INFINITY;
  }

  #at(index: number, number: number): number {
    return this.#rows[index * WIDTH + number] ?? 0;
  }

  /** Number by number: this is done for every step that a cluster makes. */
  #addStep(event: StepCommitted): void {
    const first = this.#steps * WIDTH;
    if (first === this.#rows.length) this.#grow();
    const rows = this.#rows;
    rows[first] = event.sequence;
    rows[first + 1] = event.timeMs;
    rows[first + 2] = event.step;
    rows[first + 3] = event.epoch;
    rows[first + 4] = event.loss;
    rows[first + 5] = event.generation;
    rows[first + 6] = event.samples;
    rows[first + 7] = event.stepMs;
    rows[first + 8] = event.computeMs;
    rows[first + 9] = event.reduceMs;
    rows[first + 10] = event.applyMs;
    rows[first + 11] = event.steps;
    rows[first + 12] = event.pulledBytes;
    rows[first + 13] = event.skipped ? 1 : 0;
    rows[first + 14] = event.dataMs ?? 0;
    rows[first + 15] = event.gatherMs ?? 0;
    this.#steps += 1;
    this.#job = event.job;
  }

  #grow(): void {
    const rows = new Float64Array(Math.max(FIRST_ROWS * WIDTH, 2 * this.#rows.length));
    rows.set(this.#rows);
    this.#rows = rows;
  }

  #step(index: number): StepCommitted {
    return {
      kind: 'stepCommitted',
      sequence: this.#at(index, 0),
      timeMs: this.#at(index, 1),
      job: this.#job,
      step: this.#at(index, 2),
      epoch: this.#at(index, 3),
      loss: this.#at(index, 4),
      generation: this.#at(index, 5),
      samples: this.#at(index, 6),
      stepMs: this.#at(index, 7),
      computeMs: this.#at(index, 8),
      reduceMs: this.#at(index, 9),
      applyMs: this.#at(index, 10),
      steps: this.#at(index, 11),
      pulledBytes: this.#at(index, 12),
      skipped: this.#at(index, 13) === 1,
      dataMs: this.#at(index, 14),
      gatherMs: this.#at(index, 15),
    };
  }
}

/** Index of the first of so many growing numbers that is at or after `sequence`, by halving. */
function firstFrom(sequence: number, count: number, numberOf: (index: number) => number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numberOf(middle) < sequence) low = middle + 1;
    else high = middle;
  }
  return low;
}
