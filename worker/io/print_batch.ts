/** What an engine prints between two looks: so many lines and characters; what is printed faster is dropped, and how much is said. */
import type { PrintedLine } from '../core/event.js';

const MAX_LINES = 500;
const MAX_CHARACTERS = 262_144;

export class PrintBatch {
  #lines: PrintedLine[] = [];
  #characters = 0;
  #dropped = 0;

  add(line: PrintedLine): void {
    if (this.#lines.length < MAX_LINES && this.#characters + line.text.length <= MAX_CHARACTERS) {
      this.#lines.push(line);
      this.#characters += line.text.length;
    } else this.#dropped += 1;
  }

  /** Everything so far, and the next batch begins. */
  take(timeMs: number): readonly PrintedLine[] {
    const lines = this.#lines;
    if (this.#dropped > 0) {
      const text = `[lockstep: ${this.#dropped} lines were printed too fast and dropped]`;
      lines.push({ timeMs, stream: 'stderr', text });
    }
    this.#lines = [];
    this.#characters = 0;
    this.#dropped = 0;
    return lines;
  }
}
