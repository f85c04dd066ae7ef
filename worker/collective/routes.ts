/**
 * What one worker adds up and gathers in a step, and from whom. Pure: every worker of a generation comes to routes that fit together,
 * from the roster and the placements alone.
 *
 * Every worker owns a segment of every bucket. What the partials of another host have in common with the tree, the sums of the nodes
 * that they cover together, is added up there and crosses the network once; so is a reduced segment, which one worker of a host
 * gathers for all. In both directions that worker is the segment's carrier on its host (host_groups.ts).
 *
 * A short vector is reduced in one shot: every worker pulls everybody's partials whole and adds them up itself, so that nothing has to be
 * gathered afterwards.
 */
import { contains, mergedNodes, nodeKey, rootOf, type TreeNode } from '../../shared/tree.js';
import type { HostGroups } from './host_groups.js';
import { BUCKET_BYTES } from './segments.js';

/** What a worker may pull in one shot. One way through the network is worth more than what is pulled twice, as long as that is little. */
const MOST_PULLED_BYTES = BUCKET_BYTES;

/** Who has, or will have, the partial of a node. */
export interface Placement {
  readonly node: TreeNode;
  readonly rank: number;
}

/** Something that is added: a worker's partial, or a sum that a carrier has made of the partials of its host. */
export interface Term {
  readonly kind: 'partial' | 'sum';
  readonly node: TreeNode;
  /** Who has it. A term of the own rank is always a partial. */
  readonly rank: number;
}

/** One segment of one node of the tree, as the sum of terms that cover the node. */
export interface SegmentSum {
  readonly segment: number;
  readonly node: TreeNode;
  readonly terms: readonly Term[];
}

/** Whose segment of the reduced vector is pulled from whom. */
export interface Gather {
  readonly segment: number;
  readonly rank: number;
}

export interface Routes {
  /** Into how many segments a bucket is cut: one a worker, or one in all where everybody adds up the whole. */
  readonly segments: number;
  /** The own segment of the reduced vector. */
  readonly own: SegmentSum;
  /** What this worker adds up for the owners of segments on other hosts. */
  readonly carried: readonly SegmentSum[];
  /** Those that wait for a carrier's pull come last: on no stream shall they hold up what another waits for. */
  readonly gathers: readonly Gather[];
}

/**
 * Whether a step is reduced in one shot. Only if everybody has a partial of it: then nobody commits the next step before all have committed
 * this one, and partials need not be readable for longer than that.
 */
export function isOneShot(vectorBytes: number, workers: number, placements: readonly Placement[]): boolean {
  if (workers < 2 || (placements.length - 1) * vectorBytes > MOST_PULLED_BYTES) return false;
  return new Set(placements.map(({ rank }) => rank)).size === workers;
}

export interface RoutesShape {
  readonly vectorBytes: number;
  readonly rank: number;
  /** Of the whole roster. */
  readonly groups: HostGroups;
  readonly microbatches: number;
  /** Cover the microbatches, each once. */
  readonly placements: readonly Placement[];
}

export function routesFor(shape: RoutesShape): Routes {
  const { vectorBytes, groups, placements } = shape;
  const segments = groups.ranks.length;
  if (isOneShot(vectorBytes, segments, placements))
    return { segments: 1, own: wholeSum(shape), carried: [], gathers: [] };
  return { segments, own: ownSum(shape), carried: carriedSums(shape), gathers: gathersOf(shape) };
}

function wholeSum({ microbatches, placements }: RoutesShape): SegmentSum {
  return { segment: 0, node: rootOf(microbatches), terms: placements.map(termOf) };
}

function ownSum(shape: RoutesShape): SegmentSum {
  const { rank, groups, microbatches, placements } = shape;
  const others = groups.groups.filter((group) => !group.includes(rank));
  const sums = others.flatMap((group) =>
    nodesSummedIn(group, shape).map((node): Term => ({ kind: 'sum', node, rank: groups.carrierIn(group, rank) })),
  );
  const partials = placements.filter(({ node }) => !sums.some((sum) => contains(sum.node, node)));
  return { segment: rank, node: rootOf(microbatches), terms: [...partials.map(termOf), ...sums] };
}

function carriedSums(shape: RoutesShape): readonly SegmentSum[] {
  const { rank, groups, placements } = shape;
  const group = groups.groupOf(rank);
  const owners = [...groups.ranks].filter((owner) => !group.includes(owner) && groups.carrierIn(group, owner) === rank);
  return nodesSummedIn(group, shape).flatMap((node) => {
    const terms = placements.filter((placement) => contains(node, placement.node)).map(termOf);
    return owners.map((segment) => ({ segment, node, terms }));
  });
}

/** The nodes that partials of the group are added up to before they leave its host. A worker that is alone on its host adds up nothing. */
function nodesSummedIn(group: readonly number[], { microbatches, placements }: RoutesShape): readonly TreeNode[] {
  if (group.length === 1) return [];
  const given = placements.filter(({ rank }) => group.includes(rank)).map(({ node }) => node);
  const partials = new Set(given.map(nodeKey));
  return mergedNodes(given, microbatches).filter((node) => !partials.has(nodeKey(node)));
}

function termOf({ node, rank }: Placement): Term {
  return { kind: 'partial', node, rank };
}

/** Each worker begins with the rank after its own, so that not all ask the same one first. */
function gathersOf({ rank: own, groups }: RoutesShape): readonly Gather[] {
  const workers = groups.ranks.length;
  const others = Array.from({ length: workers - 1 }, (_, index) => (own + 1 + index) % workers);
  const gathers = others.map((segment) => ({ segment, rank: groups.sourceOf(segment, own) }));
  const fromOwner = ({ segment, rank }: Gather): boolean => segment === rank;
  return [...gathers.filter(fromOwner), ...gathers.filter((gather) => !fromOwner(gather))];
}
