/** docs/scaling.md in code: what a worker pulls in one step, as functions of the sizes. */
import { blocksFor, coverOf, type TreeNode } from '../../shared/tree.js';
import { BUCKET_BYTES, bucketCount, chunkCount } from '../../worker/collective/segments.js';

export interface StepShape {
  readonly workers: number;
  readonly microbatches: number;
  /** Bytes of the exchange vector. */
  readonly vectorBytes: number;
}

export interface Placement {
  readonly node: TreeNode;
  readonly rank: number;
}

export interface StepCost {
  /** Gradient bytes: partials of the own segment, and the reduced segments of the others. */
  readonly bytes: number;
  /** Bytes of the documents that go with partials, nearly. */
  readonly factsBytes: number;
  readonly requests: number;
  readonly frames: number;
  /** Workers that it pulls from; as many pull from it. */
  readonly streams: number;
}

/** Of a document for one microbatch: a digest of 16 digits, quotes, a comma. */
const CONSUMED_BYTES = 19;
/** Of a document beside that, nearly. */
const FACTS_BYTES = 45;

/** Equal blocks, each covered by the fewest nodes of the tree. */
export function placementsOf({ workers, microbatches }: StepShape): readonly Placement[] {
  const equal = Array.from({ length: workers }, () => 1);
  return blocksFor(microbatches, equal).flatMap((block, rank) =>
    coverOf(block, microbatches).map((node) => ({ node, rank })),
  );
}

/** `partials`: all of the step; `own`: those that this worker holds; `microbatches`: those of the others. */
export function stepCost(shape: StepShape, partials: number, own: number, microbatches: number): StepCost {
  const { workers, vectorBytes } = shape;
  const remote = partials - own;
  const buckets = bucketCount(vectorBytes);
  const pulls = remote + workers - 1;
  return {
    bytes: (vectorBytes / workers) * remote + vectorBytes * (1 - 1 / workers),
    factsBytes: CONSUMED_BYTES * microbatches + FACTS_BYTES * remote,
    requests: buckets * pulls + remote,
    frames: buckets * pulls * chunkCount(Math.ceil(BUCKET_BYTES / workers)) + remote,
    streams: workers - 1,
  };
}

/** The same through the placements of one rank. */
export function stepCostOf(shape: StepShape, placements: readonly Placement[], rank: number): StepCost {
  const own = placements.filter((one) => one.rank === rank);
  const ownMicrobatches = own.reduce((sum, { node }) => sum + node.length, 0);
  return stepCost(shape, placements.length, own.length, shape.microbatches - ownMicrobatches);
}

/** Groups of the exchange in two levels: aligned subtrees of one size, as near to the root of the number of workers as can be. */
export function groupsFor({ workers, microbatches }: StepShape): { readonly groups: number; readonly members: number } {
  const leaves = Array.from({ length: Math.floor(Math.log2(microbatches)) + 1 }, (_, exponent) => 2 ** exponent);
  const sizes = leaves
    .map((length) => Math.ceil(microbatches / length))
    .filter((groups) => groups <= workers)
    .sort((left, right) => Math.abs(left - Math.sqrt(workers)) - Math.abs(right - Math.sqrt(workers)));
  const groups = sizes[0] ?? 1;
  return { groups, members: workers / groups };
}

/** In two levels, with one partial a worker; `batch` buckets share the requests of the second level. */
export function twoLevelCost(shape: StepShape, batch: number): StepCost {
  const { groups, members } = groupsFor(shape);
  const buckets = bucketCount(shape.vectorBytes);
  const inGroup = members - 1;
  const across = groups - 1;
  const requests = 2 * inGroup * buckets + 2 * across * Math.ceil(buckets / batch);
  return {
    bytes: 2 * shape.vectorBytes * (1 - 1 / shape.workers),
    factsBytes: CONSUMED_BYTES * shape.microbatches + FACTS_BYTES * (inGroup + across),
    requests: requests + inGroup + across,
    frames: 2 * inGroup * buckets * chunkCount(Math.ceil(BUCKET_BYTES / members)) + requests - 2 * inGroup * buckets,
    streams: inGroup + across,
  };
}
