/**
 * What has come of the terms of one sum, chunk by chunk, for one segment of every bucket. Pure: it holds what has come, and knows
 * nothing of streams or memory.
 */
import { nodeKey, type TreeNode } from '../../shared/tree.js';
import type { SegmentSum } from './routes.js';
import { bucketCount, CHUNK_BYTES, chunkCount, type Span, segmentSpan } from './segments.js';

/** A segment of a term that must come from a peer. `term` is its place among the sum's terms. */
export interface TermPull {
  readonly kind: 'partial' | 'sum';
  readonly sum: SegmentSum;
  readonly term: number;
  readonly node: TreeNode;
  readonly rank: number;
  readonly bucket: number;
  readonly segment: number;
  readonly length: number;
}

/** A chunk of a sum whose terms are all there. */
export interface ReadyChunk<Arrived> {
  readonly sum: SegmentSum;
  readonly bucket: number;
  /** In bytes from the start of the vector. */
  readonly at: number;
  /** In bytes from the start of the segment. */
  readonly offset: number;
  readonly length: number;
  /** In the order of the sum's terms; undefined where the term is this worker's own partial. */
  readonly inputs: readonly (Arrived | undefined)[];
}

interface Chunk<Arrived> {
  /** Terms of other workers that have not come; negative once the chunk was handed out. */
  missing: number;
  inputs: (Arrived | undefined)[];
}

interface Bucket<Arrived> {
  readonly span: Span;
  readonly chunks: Chunk<Arrived>[];
  unfolded: number;
}

export interface SegmentFoldShape {
  readonly vectorBytes: number;
  readonly rank: number;
  /** Of a bucket. */
  readonly segments: number;
}

/** `Arrived`: what has come of a term for one chunk. */
export class SegmentFold<Arrived> {
  /** Places of the terms that are pulled. */
  readonly #remote: readonly number[];
  /** Of each own partial, how many buckets are final. */
  readonly #published: Map<string, number>;
  /** Buckets of which all own partials are final. */
  #publishedBuckets = 0;
  readonly #buckets: Bucket<Arrived>[];

  constructor(
    readonly sum: SegmentSum,
    private readonly shape: SegmentFoldShape,
  ) {
    const { terms } = sum;
    this.#remote = [...terms.keys()].filter((term) => terms[term]?.rank !== shape.rank);
    this.#published = new Map(terms.flatMap(({ node, rank }) => (rank === shape.rank ? [[nodeKey(node), 0]] : [])));
    if (this.#published.size === 0) this.#publishedBuckets = Number.POSITIVE_INFINITY;
    this.#buckets = Array.from({ length: bucketCount(shape.vectorBytes) }, (_, bucket) => this.#newBucket(bucket));
  }

  #newBucket(bucket: number): Bucket<Arrived> {
    const { vectorBytes, segments } = this.shape;
    const span = segmentSpan(vectorBytes, bucket, this.sum.segment, segments);
    const chunks = Array.from({ length: chunkCount(span.length) }, () => ({
      missing: this.#remote.length,
      inputs: this.sum.terms.map(() => undefined),
    }));
    return { span, chunks, unfolded: chunks.length };
  }

  /** Bytes that may have to be held of one bucket. */
  get heldBytes(): number {
    return (this.#buckets[0]?.span.length ?? 0) * this.#remote.length;
  }

  /** The pulls that the bucket needs, of one kind. */
  pullsOf(bucket: number, kind: TermPull['kind']): readonly TermPull[] {
    const { length } = this.#bucket(bucket).span;
    if (length === 0) return [];
    return this.#remote.flatMap((term) => {
      const named = this.sum.terms[term];
      if (named?.kind !== kind) return [];
      const { node, rank } = named;
      return [{ kind, sum: this.sum, term, node, rank, bucket, segment: this.sum.segment, length }];
    });
  }

  /** The chunk at `offset` of the segment of a term has come. */
  arrived(bucket: number, term: number, offset: number, arrived: Arrived): readonly ReadyChunk<Arrived>[] {
    const index = offset / CHUNK_BYTES;
    const chunk = this.#bucket(bucket).chunks[index];
    if (chunk === undefined || chunk.inputs[term] !== undefined) throw new Error(`no chunk is wanted at ${offset}`);
    chunk.inputs[term] = arrived;
    chunk.missing--;
    return chunk.missing === 0 && bucket < this.#publishedBuckets ? [this.#take(bucket, index)] : [];
  }

  /** The first `buckets` buckets of the own partial of the node are in memory. */
  published(node: TreeNode, buckets: number): readonly ReadyChunk<Arrived>[] {
    const before = this.#published.get(nodeKey(node));
    if (before === undefined) return [];
    const from = this.#publishedBuckets;
    this.#published.set(nodeKey(node), Math.max(buckets, before));
    this.#publishedBuckets = Math.min(...this.#published.values());
    return this.#buckets
      .slice(from, this.#publishedBuckets)
      .flatMap(({ chunks }, place) =>
        chunks.flatMap(({ missing }, index) => (missing === 0 ? [this.#take(from + place, index)] : [])),
      );
  }

  #take(bucket: number, index: number): ReadyChunk<Arrived> {
    const { span, chunks } = this.#bucket(bucket);
    const inputs = chunks[index]?.inputs ?? [];
    // What has come now belongs to whoever folds it.
    chunks[index] = { missing: -1, inputs: [] };
    const offset = index * CHUNK_BYTES;
    const length = Math.min(CHUNK_BYTES, span.length - offset);
    return { sum: this.sum, bucket, at: span.at + offset, offset, length, inputs };
  }

  /** A ready chunk has been folded. True when that completes the segment of the bucket. */
  folded(bucket: number): boolean {
    const state = this.#bucket(bucket);
    state.unfolded--;
    return state.unfolded === 0;
  }

  /** Whether the bucket's segment of the sum is whole; an empty one always is. */
  isWhole(bucket: number): boolean {
    return this.#bucket(bucket).unfolded === 0;
  }

  #bucket(bucket: number): Bucket<Arrived> {
    const state = this.#buckets[bucket];
    if (state === undefined) throw new Error(`there is no bucket ${bucket}`);
    return state;
  }
}
