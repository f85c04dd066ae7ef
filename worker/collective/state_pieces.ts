/** What of a state is still to be pulled, cut into pieces as they are handed out. Pure. */
import type { ByteRange } from '../checkpoint/checkpoints.js';
import { covers } from './byte_ranges.js';

const PIECE_BYTES = 4 * 1024 * 1024;

export class StatePieces {
  /** Runs that nobody pulls now. No piece goes beyond the end of its run. */
  #todo: ByteRange[];
  #beingPulled = 0;

  constructor(missing: readonly ByteRange[]) {
    this.#todo = missing.filter(({ length }) => length > 0);
  }

  /** Everything has been pulled. */
  get whole(): boolean {
    return this.#todo.length === 0 && this.#beingPulled === 0;
  }

  /** The piece of each run that is handed out next. */
  get next(): readonly ByteRange[] {
    return this.#todo.map(headOf);
  }

  /** Hands out the first piece that is within `ranges`; it then has to be pulled or given back. */
  take(ranges: readonly ByteRange[]): ByteRange | undefined {
    const index = this.#todo.findIndex((run) => covers(ranges, headOf(run)));
    const run = this.#todo[index];
    if (run === undefined) return undefined;
    const piece = headOf(run);
    const rest = { at: run.at + piece.length, length: run.length - piece.length };
    this.#todo.splice(index, 1, ...(rest.length > 0 ? [rest] : []));
    this.#beingPulled++;
    return piece;
  }

  pulled(): void {
    this.#beingPulled--;
  }

  giveBack(piece: ByteRange): void {
    this.#beingPulled--;
    this.#todo.push(piece);
  }
}

function headOf({ at, length }: ByteRange): ByteRange {
  return { at, length: Math.min(length, PIECE_BYTES) };
}
