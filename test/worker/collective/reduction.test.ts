import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { childrenOf, rootOf, type TreeNode } from '../../../shared/tree.js';
import { Fold, sumFacts } from '../../../worker/collective/reduction.js';
import { bitsOf, Gradients } from './test_worker.js';

/** Nodes that cover the tree exactly: each node is taken whole or split, as the seed says. */
function coverFor(microbatches: number, seed: number): readonly TreeNode[] {
  let state = seed;
  const visit = (node: TreeNode): readonly TreeNode[] => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    const children = state % 3 === 0 ? undefined : childrenOf(node);
    return children === undefined ? [node] : children.flatMap(visit);
  };
  return visit(rootOf(microbatches));
}

describe('the reduction', () => {
  it('gives the bits of the tree, whatever nodes it is given and in whatever order', () => {
    const cases = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.nat(), fc.constantFrom(1, 5, 4095, 4096, 4097, 9000));
    fc.assert(
      fc.property(cases, ([microbatches, seed, elements]) => {
        const gradients = new Gradients({ elements, microbatches }, seed % 1000);
        const given = [...coverFor(microbatches, seed)].reverse();
        const into = new Float32Array(elements);
        new Fold(given, microbatches).run(
          given.map((node) => gradients.of(node)),
          into,
        );
        expect(bitsOf(into).equals(bitsOf(gradients.total))).toBe(true);
        const facts = given.map((node) => ({ node, facts: gradients.factsOf(node) }));
        expect(sumFacts(facts, microbatches)).toEqual(gradients.factsOf(rootOf(microbatches)));
      }),
      { numRuns: 100 },
    );
  });

  it('refuses partials that leave a microbatch out, or hold one twice', () => {
    const node = (lo: number, length: number): TreeNode => ({ lo, length });
    expect(() => new Fold([node(0, 2)], 4)).toThrow('microbatch 2 is in no partial');
    expect(() => new Fold([node(0, 2), node(2, 2), node(3, 1)], 4)).toThrow('overlap');
  });
});
