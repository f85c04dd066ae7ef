/**
 * Which pulls one step needs on one worker, in which order, and what a received chunk completes. Pure: it holds what has come for each
 * chunk, and knows nothing of streams or memory.
 *
 * Pulls are let out bucket by bucket inside a window, so that payloads that wait for a late partial stay bounded. Every worker goes through
 * the buckets in the same order, so the lowest unfinished bucket is in everybody's window and nobody waits in a circle.
 */
import type { TreeNode } from '../../shared/tree.js';
import type { HostGroups } from './host_groups.js';
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
  readonly groups: HostGroups;
  readonly placements: readonly Placement[];
}

/**
 * A segment that must come from a peer: of a partial from its holder, `input` being its place in the placements; of the reduced vector from
 * its owner, or from the one of the own host who carries it.
 */
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
export interface ReadyChunk<Arrived> {
  readonly bucket: number;
  readonly at: number;
  readonly length: number;
  /** In the order of the placements; undefined where the partial is this worker's own. */
  readonly inputs: readonly (Arrived | undefined)[];
}

/** Whose segment of the reduced vector is pulled from whom. */
interface Gather {
  readonly segment: number;
  readonly rank: number;
}

/** Each worker begins with the rank after its own, so that not all ask the same one first. */
function gathersOf({ rank: own, segments, groups }: ReduceShape): readonly Gather[] {
  const others = Array.from({ length: segments - 1 }, (_, index) => (own + 1 + index) % segments);
  const gathers = others.map((segment) => ({ segment, rank: groups.sourceOf(segment, own) }));
  // Those that wait for a carrier's pull come last: on no stream shall they hold up what another waits for.
  const fromOwner = ({ segment, rank }: Gather): boolean => segment === rank;
  return [...gathers.filter(fromOwner), ...gathers.filter((gather) => !fromOwner(gather))];
}

interface Chunk<Arrived> {
  /** Partials of other workers that have not come. */
  missing: number;
  inputs: (Arrived | undefined)[];
}

interface Bucket<Arrived> {
  /** The own segment. */
  readonly own: Span;
  readonly chunks: Chunk<Arrived>[];
  unfolded: number;
  ungathered: number;
}

/** `Arrived`: what has come of a partial for one chunk. */
export class ReducePlan<Arrived> {
  readonly #buckets: Bucket<Arrived>[];
  readonly #remoteInputs: readonly number[];
  readonly #gathers: readonly Gather[];
  /** Of each own partial, how many buckets are final. */
  readonly #published: Map<number, number>;
  /** Buckets of which all own partials are final. */
  #publishedBuckets = 0;
  readonly #ahead: number;
  #letOut = 0;
  #lowest = 0;

  constructor(readonly shape: ReduceShape) {
    const inputs = [...shape.placements.keys()];
    this.#remoteInputs = inputs.filter((input) => shape.placements[input]?.rank !== shape.rank);
    this.#gathers = gathersOf(shape);
    const own = inputs.filter((input) => shape.placements[input]?.rank === shape.rank);
    this.#published = new Map(own.map((input) => [input, 0]));
    if (own.length === 0) this.#publishedBuckets = Number.POSITIVE_INFINITY;
    this.#buckets = Array.from({ length: bucketCount(shape.vectorBytes) }, (_, bucket) => this.#newBucket(bucket));
    const perBucket = (this.#buckets[0]?.own.length ?? 0) * this.#remoteInputs.length;
    this.#ahead = Math.min(MOST_BUCKETS_AHEAD, Math.max(2, Math.floor(HELD_BYTES / Math.max(1, perBucket))));
  }

  #newBucket(bucket: number): Bucket<Arrived> {
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
    const reduced = this.#gathers.map(({ segment, rank }): PlannedPull => {
      const { length } = segmentSpan(vectorBytes, bucket, segment, segments);
      return { kind: 'reduced', rank, bucket, segment, length };
    });
    return [...partials, ...reduced].filter(({ length }) => length > 0);
  }

  /** The chunk at `offset` of the own segment of partial number `input` has come. */
  partialArrived(bucket: number, input: number, offset: number, arrived: Arrived): readonly ReadyChunk<Arrived>[] {
    const index = offset / CHUNK_BYTES;
    const chunk = this.#bucket(bucket).chunks[index];
    if (chunk === undefined || chunk.inputs[input] !== undefined) throw new Error(`no chunk is wanted at ${offset}`);
    chunk.inputs[input] = arrived;
    chunk.missing--;
    return chunk.missing === 0 && bucket < this.#publishedBuckets ? [this.#take(bucket, index)] : [];
  }

  /** The first `buckets` buckets of the own partial number `input` are in memory. */
  published(input: number, buckets: number): readonly ReadyChunk<Arrived>[] {
    const from = this.#publishedBuckets;
    this.#published.set(input, Math.max(buckets, this.#published.get(input) ?? 0));
    this.#publishedBuckets = Math.min(...this.#published.values());
    return this.#buckets
      .slice(from, this.#publishedBuckets)
      .flatMap(({ chunks }, place) =>
        chunks.flatMap(({ missing }, index) => (missing === 0 ? [this.#take(from + place, index)] : [])),
      );
  }

  #take(bucket: number, index: number): ReadyChunk<Arrived> {
    const { own, chunks } = this.#bucket(bucket);
    const inputs = chunks[index]?.inputs ?? [];
    // What has come now belongs to whoever folds it.
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

  #bucket(bucket: number): Bucket<Arrived> {
    const state = this.#buckets[bucket];
    if (state === undefined) throw new Error(`there is no bucket ${bucket}`);
    return state;
  }
}
