/**
 * Which pulls one step needs on one worker, in which order, and what a received chunk completes. Pure: it knows nothing of streams or
 * memory.
 *
 * Pulls are let out bucket by bucket inside a window, so that payloads that wait for a late partial stay bounded. Every worker goes through
 * the buckets in the same order, so the lowest unfinished bucket is in everybody's window and nobody waits in a circle. Within a bucket
 * the pulls are in the order in which they depend on those of others: partials, sums of them, reduced segments, those that others carry.
 */
import type { TreeNode } from '../../shared/tree.js';
import type { Gather, Routes, SegmentSum } from './routes.js';
import { type ReadyChunk, SegmentFold, type SegmentFoldShape, type TermPull } from './segment_fold.js';
import { bucketCount, bucketSpan, segmentSpan } from './segments.js';

/** Payload bytes of terms that may be held at a time, as long as at least two buckets fit. */
const HELD_BYTES = 48 * 1024 * 1024;
const MOST_BUCKETS_AHEAD = 16;

export interface ReduceShape extends Omit<SegmentFoldShape, 'segments'> {
  readonly routes: Routes;
}

/** A segment of the reduced vector that must come from a peer. */
export interface GatherPull extends Gather {
  readonly kind: 'reduced';
  readonly bucket: number;
  readonly length: number;
}

export type PlannedPull = TermPull | GatherPull;

/** `Arrived`: what has come of a term for one chunk. */
export class ReducePlan<Arrived> {
  readonly #folds: ReadonlyMap<SegmentSum, SegmentFold<Arrived>>;
  /** Of each bucket, the bytes of other workers' reduced segments that have not come. */
  readonly #ungathered: number[];
  /** Workers whose segment of the last bucket is empty, and who have not said yet that they have come so far. */
  #unheard = 0;
  readonly #ahead: number;
  #letOut = 0;
  #lowest = 0;

  constructor(readonly shape: ReduceShape) {
    const { vectorBytes, routes } = shape;
    const { segments } = routes;
    // What others wait for comes first.
    const sums = [...routes.carried, routes.own];
    this.#folds = new Map(sums.map((sum) => [sum, new SegmentFold<Arrived>(sum, { ...shape, segments })]));
    this.#ungathered = Array.from({ length: bucketCount(vectorBytes) }, (_, bucket) => {
      return (
        bucketSpan(vectorBytes, bucket).length - segmentSpan(vectorBytes, bucket, routes.own.segment, segments).length
      );
    });
    this.#unheard = routes.gathers.filter(({ segment }) => {
      return segmentSpan(vectorBytes, this.lastBucket, segment, segments).length === 0;
    }).length;
    const perBucket = [...this.#folds.values()].reduce((bytes, { heldBytes }) => bytes + heldBytes, 0);
    this.#ahead = Math.min(MOST_BUCKETS_AHEAD, Math.max(2, Math.floor(HELD_BYTES / Math.max(1, perBucket))));
  }

  /** Pulls that may be made now and were not given out before. */
  nextPulls(): readonly PlannedPull[] {
    const pulls: PlannedPull[] = [];
    const end = Math.min(this.#ungathered.length, this.#lowest + this.#ahead);
    for (; this.#letOut < end; this.#letOut++) pulls.push(...this.#pullsOf(this.#letOut));
    return pulls;
  }

  #pullsOf(bucket: number): readonly PlannedPull[] {
    const folds = [...this.#folds.values()];
    const partials = folds.flatMap((fold) => fold.pullsOf(bucket, 'partial'));
    const sums = folds.flatMap((fold) => fold.pullsOf(bucket, 'sum'));
    return [...partials, ...sums, ...this.#gathersOf(bucket)];
  }

  #gathersOf(bucket: number): readonly GatherPull[] {
    const { vectorBytes, routes } = this.shape;
    return routes.gathers.flatMap(({ segment, rank }): readonly GatherPull[] => {
      const { length } = segmentSpan(vectorBytes, bucket, segment, routes.segments);
      // Nobody commits without having heard of everybody, even of those whose segments are empty.
      return length > 0 || bucket === this.lastBucket ? [{ kind: 'reduced', rank, bucket, segment, length }] : [];
    });
  }

  /** The chunk at `offset` of what a pull asked for has come. */
  arrived({ sum, bucket, term }: TermPull, offset: number, arrived: Arrived): readonly ReadyChunk<Arrived>[] {
    return this.#fold(sum).arrived(bucket, term, offset, arrived);
  }

  /** The first `buckets` buckets of the own partial of the node are in memory. */
  published(node: TreeNode, buckets: number): readonly ReadyChunk<Arrived>[] {
    return [...this.#folds.values()].flatMap((fold) => fold.published(node, buckets));
  }

  /** A ready chunk has been folded. True when that completes the sum's segment of the bucket. */
  folded({ sum, bucket }: ReadyChunk<Arrived>): boolean {
    const whole = this.#fold(sum).folded(bucket);
    this.#advance();
    return whole;
  }

  /** `length` bytes of a reduced segment of another worker are in the slot, or all of an empty one. */
  gathered(bucket: number, length: number): void {
    if (length === 0) this.#unheard--;
    this.#ungathered[bucket] = (this.#ungathered[bucket] ?? 0) - length;
    this.#advance();
  }

  get lastBucket(): number {
    return this.#ungathered.length - 1;
  }

  /** The own segment of the last bucket has no bytes. */
  get lastIsEmpty(): boolean {
    const { vectorBytes, routes } = this.shape;
    return segmentSpan(vectorBytes, this.lastBucket, routes.own.segment, routes.segments).length === 0;
  }

  get done(): boolean {
    return this.#lowest === this.#ungathered.length;
  }

  #advance(): void {
    while (!this.done && this.#isWhole(this.#lowest)) this.#lowest++;
  }

  #isWhole(bucket: number): boolean {
    if (this.#ungathered[bucket] !== 0 || (bucket === this.lastBucket && this.#unheard > 0)) return false;
    for (const fold of this.#folds.values()) if (!fold.isWhole(bucket)) return false;
    return true;
  }

  #fold(sum: SegmentSum): SegmentFold<Arrived> {
    const fold = this.#folds.get(sum);
    if (fold === undefined) throw new Error(`segment ${sum.segment} is not added up here`);
    return fold;
  }
}
