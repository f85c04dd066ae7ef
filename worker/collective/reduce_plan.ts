/**
 * Which pulls one step needs on one worker, in which order, and what a received chunk completes. Pure: it holds payloads, and
 * knows nothing of streams or memory.
 *
 * Pulls are let out bucket by bucket inside a window, so that payloads that wait for a late partial stay bounded. Every worker goes through
 * the buckets in the same order, so the lowest unfinished bucket is in everybody's window and nobody waits in a circle.
 */
import type { TreeNode } from '../../shared/tree.js';
import { bucketCount, bucketSpan, CHUNK_BYTES, chunkCount, type Span, segmentSpan } from './segments.js';

/** Payload bytes of partials that may be held at a time, as long as at least two buckets fit. */
const HELD_BYTES = 48 * 1024 * 1024;
const MOST_BUCKETS_AHEAD = 16;

export interface Placement {
  readonly node: TreeNode;
  readonly rank: number;
}

export interface ReduceShape {
  readonly vectorBytes: number;
  readonly rank: number;
  /** Size of the roster. */
  readonly segments: number;
  readonly placements: readonly Placement[];
}

/** A segment that must come from a peer. `input` is the partial's place in the placements. */
export type PlannedPull =
  | {
      readonly kind: 'partial';
      readonly input: number;
      readonly rank: number;
      readonly bucket: number;
      readonly segment: number;
      readonly length: number;
    }
  | {
      readonly kind: 'reduced';
      readonly rank: number;
      readonly bucket: number;
      readonly segment: number;
      readonly length: number;
    };

/** A chunk of the own segment whose inputs are all there. `at` is in bytes from the start of the vector. */
export interface ReadyChunk {
  readonly bucket: number;
  readonly at: number;
  readonly length: number;
  /** In the order of the placements; undefined where the partial is this worker's own. */
  readonly inputs: readonly (Float32Array | undefined)[];
}

interface Chunk {
  missing: number;
  inputs: (Float32Array | undefined)[];
}

interface Bucket {
  /** The own segment. */
  readonly own: Span;
  readonly chunks: Chunk[];
  unfolded: number;
  ungathered: number;
}

export class ReducePlan {
  readonly #buckets: Bucket[];
  readonly #remoteInputs: readonly number[];
  readonly #unpublished: Set<number>;
  readonly #ahead: number;
  #letOut = 0;
  #lowest = 0;

  constructor(readonly shape: ReduceShape) {
    const inputs = [...shape.placements.keys()];
    this.#remoteInputs = inputs.filter((input) => shape.placements[input]?.rank !== shape.rank);
    this.#unpublished = new Set(inputs.filter((input) => shape.placements[input]?.rank === shape.rank));
    this.#buckets = Array.from({ length: bucketCount(shape.vectorBytes) }, (_, bucket) => this.#newBucket(bucket));
    const perBucket = (this.#buckets[0]?.own.length ?? 0) * this.#remoteInputs.length;
    this.#ahead = Math.min(MOST_BUCKETS_AHEAD, Math.max(2, Math.floor(HELD_BYTES / Math.max(1, perBucket))));
  }

  #newBucket(bucket: number): Bucket {
    const { vectorBytes, rank, segments } = this.shape;
    const own = segmentSpan(vectorBytes, bucket, rank, segments);
    const chunks = Array.from({ length: chunkCount(own.length) }, () => ({
      missing: this.#remoteInputs.length,
      inputs: this.shape.placements.map(() => undefined),
    }));
    return { own, chunks, unfolded: chunks.length, ungathered: bucketSpan(vectorBytes, bucket).length - own.length };
  }

  /** Pulls that may be made now and were not given out before. */
  nextPulls(): readonly PlannedPull[] {
    const pulls: PlannedPull[] = [];
    const end = Math.min(this.#buckets.length, this.#lowest + this.#ahead);
    for (; this.#letOut < end; this.#letOut++) pulls.push(...this.#pullsOf(this.#letOut));
    return pulls;
  }

  #pullsOf(bucket: number): readonly PlannedPull[] {
    const { vectorBytes, rank: ownRank, segments, placements } = this.shape;
    const own = segmentSpan(vectorBytes, bucket, ownRank, segments);
    const partials = this.#remoteInputs.map((input): PlannedPull => {
      const rank = placements[input]?.rank ?? 0;
      return { kind: 'partial', input, rank, bucket, segment: ownRank, length: own.length };
    });
    // Each worker begins with the rank after its own, so that not all ask the same one first.
    const others = Array.from({ length: segments - 1 }, (_, index) => (ownRank + 1 + index) % segments);
    const reduced = others.map((rank): PlannedPull => {
      const { length } = segmentSpan(vectorBytes, bucket, rank, segments);
      return { kind: 'reduced', rank, bucket, segment: rank, length };
    });
    return [...partials, ...reduced].filter(({ length }) => length > 0);
  }

  /** The chunk at `offset` of the own segment of partial number `input` has come. */
  partialArrived(bucket: number, input: number, offset: number, payload: Float32Array): readonly ReadyChunk[] {
    const index = offset / CHUNK_BYTES;
    const chunk = this.#bucket(bucket).chunks[index];
    if (chunk === undefined || chunk.inputs[input] !== undefined) throw new Error(`no chunk is wanted at ${offset}`);
    chunk.inputs[input] = payload;
    chunk.missing--;
    return chunk.missing === 0 && this.#unpublished.size === 0 ? [this.#take(bucket, index)] : [];
  }

  /** The own partial number `input` is in memory. */
  published(input: number): readonly ReadyChunk[] {
    if (!this.#unpublished.delete(input) || this.#unpublished.size > 0) return [];
    return this.#readyChunks();
  }

  #readyChunks(): readonly ReadyChunk[] {
    return this.#buckets.flatMap(({ chunks }, bucket) =>
      chunks.flatMap(({ missing }, index) => (missing === 0 ? [this.#take(bucket, index)] : [])),
    );
  }

  #take(bucket: number, index: number): ReadyChunk {
    const { own, chunks } = this.#bucket(bucket);
    const inputs = chunks[index]?.inputs ?? [];
    // The payloads now belong to whoever folds them.
    chunks[index] = { missing: -1, inputs: [] };
    const offset = index * CHUNK_BYTES;
    return { bucket, at: own.at + offset, length: Math.min(CHUNK_BYTES, own.length - offset), inputs };
  }

  /** A ready chunk has been folded. True when that completes the own segment of the bucket. */
  folded(bucket: number): boolean {
    const state = this.#bucket(bucket);
    state.unfolded--;
    this.#advance();
    return state.unfolded === 0;
  }

  /** `length` bytes of a reduced segment of another worker are in the slot. */
  gathered(bucket: number, length: number): void {
    this.#bucket(bucket).ungathered -= length;
    this.#advance();
  }

  /** Buckets from the first on that are whole. */
  get wholeBuckets(): number {
    return this.#lowest;
  }

  get done(): boolean {
    return this.#lowest === this.#buckets.length;
  }

  #advance(): void {
    for (let next = this.#buckets[this.#lowest]; next !== undefined; next = this.#buckets[this.#lowest]) {
      if (next.unfolded > 0 || next.ungathered > 0) return;
      this.#lowest++;
    }
  }

  #bucket(bucket: number): Bucket {
    const state = this.#buckets[bucket];
    if (state === undefined) throw new Error(`there is no bucket ${bucket}`);
    return state;
  }
}
