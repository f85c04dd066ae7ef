/** The image of a training state, as bytes in a memory file or in the shards of a checkpoint: a header, and some tensors. */
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import { digestOf, mix } from '../hashing.js';

/** A state, or what a mixture of states is: `weights` that no job can have. */
export interface StateContent {
  readonly committed: number;
  readonly weights: number;
}

/** Fewer than some saves have shards: then some shards are empty. */
const TENSORS = 4;
/** Bytes of the header and of each tensor. */
const PIECE_BYTES = 64;
export const IMAGE_BYTES = PIECE_BYTES * (1 + TENSORS);
/** What bytes are that are of no state. */
const GARBAGE = 555;

/** What engines say of a state, and manifests. */
export function stateDigest({ weights }: StateContent): string {
  return digestOf(mix(weights, 1));
}

/** The run of each shard, at borders of tensors. */
export function runsOf(shards: number): readonly ByteRange[] {
  return Array.from({ length: shards }, (_, shard) => {
    const from = Math.floor((TENSORS * shard) / shards);
    const to = Math.floor((TENSORS * (shard + 1)) / shards);
    return { at: PIECE_BYTES * (1 + from), length: PIECE_BYTES * (to - from) };
  });
}

export const HEADER: ByteRange = { at: 0, length: PIECE_BYTES };

/** Sorted ranges; those that touch become one, empty ones go. */
export function joined(ranges: readonly ByteRange[]): readonly ByteRange[] {
  const result: ByteRange[] = [];
  for (const { at, length } of ranges) {
    const last = result.at(-1);
    if (length === 0) continue;
    if (last !== undefined && last.at + last.length === at)
      result[result.length - 1] = { at: last.at, length: last.length + length };
    else result.push({ at, length });
  }
  return result;
}

export class Image {
  /** The header and the tensors: of which state each is. */
  readonly #pieces: (StateContent | undefined)[] = new Array(1 + TENSORS).fill(undefined);

  fill(content: StateContent): void {
    this.#pieces.fill(content);
  }

  /** Writes a range as it is in the image of `content`. */
  write({ at, length }: ByteRange, content: StateContent | undefined): void {
    this.#pieces.fill(content, at / PIECE_BYTES, (at + length) / PIECE_BYTES);
  }

  /** Copies a range from another image. */
  copy({ at, length }: ByteRange, from: Image): void {
    for (let piece = at / PIECE_BYTES; piece < (at + length) / PIECE_BYTES; piece++)
      this.#pieces[piece] = from.#pieces[piece];
  }

  clone(): Image {
    const copy = new Image();
    copy.copy({ at: 0, length: IMAGE_BYTES }, this);
    return copy;
  }

  /** The state that all of it is of. */
  get whole(): StateContent | undefined {
    const [first] = this.#pieces;
    return this.#pieces.every((piece) => piece?.weights === first?.weights) ? first : undefined;
  }

  get sha256(): string {
    const { whole } = this;
    if (whole !== undefined) return stateDigest(whole);
    return digestOf(this.#pieces.reduce((hash, piece) => mix(hash, piece?.weights ?? GARBAGE), GARBAGE));
  }
}

/**
 * The copy that an engine makes of its state for a save. It belongs to the engine, but whoever has opened it reads on when the engine is
 * gone. A reader that meets a newer copy has something that is of no state.
 */
export class SnapshotMemory {
  #content: StateContent | undefined;
  #copies = 0;

  begin(): void {
    this.#copies += 1;
    this.#content = undefined;
  }

  end(content: StateContent): void {
    this.#content = content;
  }

  /** Begins to read; the result says what has been read when it is called. */
  read(): () => StateContent {
    const copy = this.#copies;
    const content = this.#content;
    return () => {
      if (content !== undefined && copy === this.#copies) return content;
      return { committed: content?.committed ?? -1, weights: mix(GARBAGE, this.#copies) };
    };
  }
}
