import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  additionsFor,
  blocksFor,
  childrenOf,
  contains,
  coverOf,
  mergedNodes,
  nodeKey,
  rootOf,
  type TreeNode,
} from '../../shared/tree.js';

const microbatches = fc.integer({ min: 1, max: 300 });

/** The textbook definition: split after the largest power of two below n. */
function nodesOf(node: TreeNode): readonly TreeNode[] {
  if (node.length === 1) return [node];
  let left = 1;
  while (left * 2 < node.length) left *= 2;
  return [
    node,
    ...nodesOf({ lo: node.lo, length: left }),
    ...nodesOf({ lo: node.lo + left, length: node.length - left }),
  ];
}

describe('the reduction tree', () => {
  it('splits a run of leaves after the largest power of two below its length', () => {
    const cases: readonly (readonly [number, number, number])[] = [
      [2, 1, 1],
      [3, 2, 1],
      [4, 2, 2],
      [5, 4, 1],
      [8, 4, 4],
      [12, 8, 4],
      [13, 8, 5],
    ];
    for (const [n, left, right] of cases) {
      expect(childrenOf({ lo: 7, length: n })).toEqual([
        { lo: 7, length: left },
        { lo: 7 + left, length: right },
      ]);
    }
    expect(childrenOf({ lo: 3, length: 1 })).toBeUndefined();
  });

  it('covers every block by nodes of the tree, each leaf once and in order, with no two that one node could replace', () => {
    fc.assert(
      fc.property(microbatches, fc.nat(), fc.nat(), (m, a, b) => {
        const lo = a % m;
        const block = { lo, length: b % (m - lo + 1) };
        const cover = coverOf(block, m);
        const leaves = cover.flatMap((node) => Array.from({ length: node.length }, (_, i) => node.lo + i));
        expect(leaves).toEqual(Array.from({ length: block.length }, (_, i) => lo + i));
        const all = nodesOf(rootOf(m));
        const keys = new Set(all.map(nodeKey));
        expect(cover.every((node) => keys.has(nodeKey(node)))).toBe(true);
        for (const node of all) {
          const inside = node.lo >= lo && node.lo + node.length <= lo + block.length;
          const replaced = cover.filter((c) => c.lo >= node.lo && c.lo + c.length <= node.lo + node.length);
          if (inside) expect(replaced.length).toBeLessThan(2);
        }
      }),
    );
  });

  it('adds the same pairs in the same order whatever the blocks are', () => {
    const sum = (given: readonly TreeNode[], m: number): string => {
      const text = new Map<string, string>();
      const leafText = (node: TreeNode): string => {
        const children = childrenOf(node);
        return children === undefined ? `${node.lo}` : `(${leafText(children[0])}+${leafText(children[1])})`;
      };
      for (const node of given) text.set(nodeKey(node), leafText(node));
      for (const { left, right, into } of additionsFor(given, rootOf(m))) {
        text.set(nodeKey(into), `(${text.get(nodeKey(left))}+${text.get(nodeKey(right))})`);
      }
      return text.get(nodeKey(rootOf(m))) ?? '';
    };
    fc.assert(
      fc.property(
        microbatches,
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 9 }),
        (m, weights) => {
          const given = blocksFor(m, weights).flatMap((block) => coverOf(block, m));
          expect(sum(given, m)).toBe(sum([rootOf(m)], m));
        },
      ),
    );
  });

  it('merges nodes as far up the tree as they go, and loses none', () => {
    fc.assert(
      fc.property(microbatches, fc.array(fc.nat({ max: 2 }), { maxLength: 300 }), (m, picks) => {
        const all = blocksFor(m, [1, 2, 3, 1].slice(0, 1 + (picks.length % 4))).flatMap((block) => coverOf(block, m));
        const leaves = Array.from({ length: m }, (_, lo) => ({ lo, length: 1 }));
        const given = (picks.length % 2 === 0 ? all : leaves).filter((_, index) => picks[index] !== 0);
        const merged = mergedNodes(given, m);
        const leavesOf = (nodes: readonly TreeNode[]): readonly number[] =>
          nodes.flatMap(({ lo, length }) => Array.from({ length }, (_, i) => lo + i));
        expect(leavesOf(merged)).toEqual(leavesOf(given));
        for (const node of given) expect(merged.filter((one) => contains(one, node)).length).toBe(1);
        const keys = new Set(nodesOf(rootOf(m)).map(nodeKey));
        expect(merged.every((node) => keys.has(nodeKey(node)))).toBe(true);
        for (const node of nodesOf(rootOf(m))) {
          const [left, right] = childrenOf(node) ?? [];
          const has = (child: TreeNode | undefined): boolean =>
            child !== undefined && merged.some((one) => nodeKey(one) === nodeKey(child));
          expect(has(left) && has(right)).toBe(false);
        }
      }),
    );
  });

  it('names the microbatch that is in no partial', () => {
    expect(() => additionsFor([{ lo: 0, length: 2 }], rootOf(4))).toThrow('microbatch 2 is in no partial');
  });

  it('gives one partial a worker when the workers divide the microbatches into powers of two', () => {
    for (const [m, n] of [
      [8, 1],
      [8, 2],
      [8, 4],
      [12, 3],
      [24, 3],
    ] as const) {
      const blocks = blocksFor(m, Array(n).fill(1));
      expect(blocks.map((block) => coverOf(block, m).length)).toEqual(Array(n).fill(1));
    }
  });

  it('cuts blocks that are contiguous, complete and follow the weights', () => {
    fc.assert(
      fc.property(
        microbatches,
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 12 }),
        (m, weights) => {
          const blocks = blocksFor(m, weights);
          const total = weights.reduce((a, b) => a + b, 0);
          let next = 0;
          blocks.forEach((block, i) => {
            expect(block.lo).toBe(next);
            next += block.length;
            expect(Math.abs(block.length - ((weights[i] ?? 0) / total) * m)).toBeLessThanOrEqual(1);
          });
          expect(next).toBe(m);
        },
      ),
    );
  });
});
