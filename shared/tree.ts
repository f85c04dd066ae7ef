/**
 * The reduction tree over the microbatches 0..M-1 of a step.
 *
 * fp32 addition is not associative, so the order of addition is fixed by M alone and never by who computed what. A run of n
 * leaves is split after the largest power of two below n. A node is named by its first leaf and its number of leaves.
 */

export interface TreeNode {
  readonly lo: number;
  readonly length: number;
}

/** The largest power of two below n, for n of at least 2. */
function splitOf(n: number): number {
  return 2 ** (Math.ceil(Math.log2(n)) - 1);
}

/** Left and right part of a node, or undefined for a leaf. */
export function childrenOf(node: TreeNode): readonly [TreeNode, TreeNode] | undefined {
  if (node.length < 2) return undefined;
  const left = splitOf(node.length);
  return [
    { lo: node.lo, length: left },
    { lo: node.lo + left, length: node.length - left },
  ];
}

export function rootOf(microbatches: number): TreeNode {
  return { lo: 0, length: microbatches };
}

export function nodeKey(node: TreeNode): string {
  return `${node.lo}+${node.length}`;
}

/** Whether every leaf of `inner` is one of `outer`. */
export function contains(outer: TreeNode, inner: TreeNode): boolean {
  return inner.lo >= outer.lo && inner.lo + inner.length <= outer.lo + outer.length;
}

/** The fewest nodes of the tree over `microbatches` leaves that together are exactly the run `block`, in leaf order. */
export function coverOf(block: TreeNode, microbatches: number): readonly TreeNode[] {
  const end = block.lo + block.length;
  const visit = (node: TreeNode): readonly TreeNode[] => {
    const nodeEnd = node.lo + node.length;
    if (nodeEnd <= block.lo || node.lo >= end || block.length === 0) return [];
    if (node.lo >= block.lo && nodeEnd <= end) return [node];
    return (childrenOf(node) ?? []).flatMap(visit);
  };
  return visit(rootOf(microbatches));
}

/**
 * The fewest nodes of the tree over `microbatches` leaves that have the same leaves as `given`, which are nodes of it that do not overlap;
 * in leaf order. Each is one of `given`, or the sum of several.
 */
export function mergedNodes(given: readonly TreeNode[], microbatches: number): readonly TreeNode[] {
  const visit = (node: TreeNode, inside: readonly TreeNode[]): readonly TreeNode[] => {
    const leaves = inside.reduce((sum, { length }) => sum + length, 0);
    if (leaves === node.length) return [node];
    if (leaves === 0) return [];
    return (childrenOf(node) ?? []).flatMap((child) => {
      return visit(
        child,
        inside.filter((one) => contains(child, one)),
      );
    });
  };
  return visit(rootOf(microbatches), given);
}

/** One step of a reduction: `into` becomes the sum of `left` and `right`. */
export interface Addition {
  readonly left: TreeNode;
  readonly right: TreeNode;
  readonly into: TreeNode;
}

/**
 * The additions that lead from `given` to `root`, which may be any node of the tree, each after those that it needs.
 * `given` must cover every leaf of it exactly once with nodes of the tree; otherwise the leaf that is missing is named.
 */
export function additionsFor(given: readonly TreeNode[], root: TreeNode): readonly Addition[] {
  const have = new Set(given.map(nodeKey));
  const additions: Addition[] = [];
  const visit = (node: TreeNode): void => {
    if (have.has(nodeKey(node))) return;
    const children = childrenOf(node);
    if (children === undefined) throw new Error(`microbatch ${node.lo} is in no partial`);
    for (const child of children) visit(child);
    additions.push({ left: children[0], right: children[1], into: node });
  };
  visit(root);
  return additions;
}

/** Contiguous blocks whose lengths follow `weights` (at least one positive): one block a weight, possibly empty. */
export function blocksFor(microbatches: number, weights: readonly number[]): readonly TreeNode[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let before = 0;
  return weights.map((weight) => {
    const lo = Math.round((before / total) * microbatches);
    before += weight;
    return { lo, length: Math.round((before / total) * microbatches) - lo };
  });
}
