import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { childrenOf, rootOf, type TreeNode } from '../../../shared/tree.js';
import { Fold, sumFacts } from '../../../worker/collective/reduction.js';
import { SUMS_WASM } from '../../../worker/collective/sums_wasm.js';
import { assembleSums } from './assemble_sums.js';
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

/** The bfloat16 number with these bits. */
function asFloat(bits: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(bits, 2);
  return bytes.readFloatLE(0);
}

/** The nearest bfloat16 number, by trying the two around it. */
function bf16(value: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value, 0);
  const below = bytes.readUInt16LE(2);
  const [low, high] = [asFloat(below), asFloat(below + 1)];
  if (Number.isNaN(low) || value === low) return low;
  // Beyond the largest finite number the next one would be twice as large.
  const next = Number.isFinite(high) ? high : Math.sign(value) * 2 ** 128;
  const [down, up] = [Math.abs(value - low), Math.abs(next - value)];
  if (down !== up) return down < up ? low : high;
  return below % 2 === 0 ? low : high;
}

/** The first `narrowBytes` bytes are bfloat16 numbers, what is left of the values follows as fp32. */
function mixed(values: readonly number[], narrowBytes = 64): Buffer {
  const narrow = values.slice(0, narrowBytes / 2);
  const wide = values.slice(narrowBytes / 2, narrowBytes / 2 + 16);
  const bytes = Buffer.alloc(narrowBytes + 4 * wide.length);
  narrow.forEach((value, i) => {
    const single = Buffer.alloc(4);
    single.writeFloatLE(bf16(value), 0);
    bytes.writeUInt16LE(single.readUInt16LE(2), 2 * i);
  });
  for (const [i, value] of wide.entries()) bytes.writeFloatLE(value, narrowBytes + 4 * i);
  return bytes;
}

describe('the reduction', () => {
  it('gives the bits of the tree, whatever nodes it is given and in whatever order', () => {
    const cases = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.nat(), fc.constantFrom(1, 5, 4095, 4096, 4097, 9000));
    fc.assert(
      fc.property(cases, ([microbatches, seed, elements]) => {
        const gradients = new Gradients({ elements, microbatches }, seed % 1000);
        const given = [...coverFor(microbatches, seed)].reverse();
        const into = Buffer.from(new Float32Array(elements).buffer);
        new Fold(given, rootOf(microbatches)).run(
          given.map((node) => bitsOf(gradients.of(node))),
          into,
          0,
        );
        expect(into.equals(bitsOf(gradients.total))).toBe(true);
        const facts = given.map((node) => ({ node, facts: gradients.factsOf(node) }));
        expect(sumFacts(facts, microbatches)).toEqual(gradients.factsOf(rootOf(microbatches)));
      }),
      { numRuns: 100 },
    );
  });

  it('rounds every sum of bfloat16 numbers to the nearest one, and adds the rest in fp32', () => {
    const numbers = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 64, maxLength: 64 });
    fc.assert(
      fc.property(numbers, numbers, numbers, (a, b, c) => {
        // 32 bfloat16 numbers in the first 64 bytes, then 16 of fp32.
        const inputs = [a, b, c].map((values) => mixed(values));
        const into = Buffer.alloc(128);
        const given = [0, 1, 2].map((lo) => ({ lo, length: 1 }));
        new Fold(given, rootOf(3)).run(inputs, into, 64);
        for (let i = 0; i < 32; i++) {
          const [x, y, z] = [a, b, c].map((values) => bf16(values[i] ?? 0));
          const sum = bf16(Math.fround(bf16(Math.fround((x ?? 0) + (y ?? 0))) + (z ?? 0)));
          const read = asFloat(into.readUInt16LE(2 * i));
          expect(Number.isNaN(sum) ? Number.isNaN(read) : read === sum).toBe(true);
        }
        for (let i = 0; i < 16; i++) {
          const [x, y, z] = [a, b, c].map((values) => values[32 + i] ?? 0);
          const sum = Math.fround(Math.fround((x ?? 0) + (y ?? 0)) + (z ?? 0));
          const read = into.readFloatLE(64 + 4 * i);
          expect(Number.isNaN(sum) ? Number.isNaN(read) : read === sum).toBe(true);
        }
      }),
    );
  });

  it('rounds ties to even', () => {
    const sum = (left: number, right: number): number => {
      const into = Buffer.alloc(64);
      const inputs = [left, right].map((value) => mixed([value], 64));
      new Fold(
        [0, 1].map((lo) => ({ lo, length: 1 })),
        rootOf(2),
      ).run(inputs, into, 64);
      return asFloat(into.readUInt16LE(0));
    };
    expect(sum(256, 1)).toBe(256);
    expect(sum(258, 1)).toBe(260);
    expect(sum(256, 3)).toBe(260);
    expect(sum(Number.NaN, 1)).toBeNaN();
    expect(sum(3e38, 3e38)).toBe(Number.POSITIVE_INFINITY);
  });

  it('refuses partials that leave a microbatch out, or hold one twice', () => {
    const node = (lo: number, length: number): TreeNode => ({ lo, length });
    expect(() => new Fold([node(0, 2)], node(0, 4))).toThrow('microbatch 2 is in no partial');
    expect(() => new Fold([node(0, 2), node(2, 2), node(3, 1)], node(0, 4))).toThrow('overlap');
  });
});

it('runs what sums.wat says', async () => {
  expect(await assembleSums()).toBe(SUMS_WASM);
});
