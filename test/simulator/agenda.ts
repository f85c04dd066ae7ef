/** Virtual time: what is to happen, in order. Of two things at the same time the one that was planned first comes first. */
interface Entry {
  readonly timeMs: number;
  readonly order: number;
  readonly act: () => void;
}

function isBefore(left: Entry, right: Entry): boolean {
  return left.timeMs < right.timeMs || (left.timeMs === right.timeMs && left.order < right.order);
}

export class Agenda {
  /** A binary heap: the parent of entry i is entry (i - 1) >> 1. */
  readonly #heap: Entry[] = [];
  #order = 0;
  nowMs = 0;
  done = 0;

  after(delayMs: number, act: () => void): void {
    const entry = { timeMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, act };
    let index = this.#heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = this.#heap[parent];
      if (above === undefined || isBefore(above, entry)) break;
      this.#heap[index] = above;
      index = parent;
    }
    this.#heap[index] = entry;
  }

  /** Does the next thing; false if there is none. */
  step(): boolean {
    const first = this.#heap[0];
    const last = this.#heap.pop();
    if (first === undefined || last === undefined) return false;
    if (first !== last) this.#sink(last);
    this.nowMs = first.timeMs;
    this.done += 1;
    first.act();
    return true;
  }

  #sink(entry: Entry): void {
    const heap = this.#heap;
    let index = 0;
    for (;;) {
      const left = heap[2 * index + 1];
      const right = heap[2 * index + 2];
      if (left === undefined) break;
      const useRight = right !== undefined && isBefore(right, left);
      const child = useRight ? right : left;
      if (isBefore(entry, child)) break;
      heap[index] = child;
      index = 2 * index + (useRight ? 2 : 1);
    }
    heap[index] = entry;
  }
}
