import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { headerBytes, parseImageHeader } from '../../../shared/checkpoint/image_header.js';
import { cutIntoRuns, shardHeader, tensorsOf } from '../../../shared/checkpoint/shard_plan.js';
import { readSafetensors } from '../../system/safetensors_file.js';
import { timed } from '../../timed.js';
import { headerOf, imageOf, SOME_TENSORS } from './images.js';

const sized = (elements: readonly number[]) =>
  headerOf(elements.map((count, index) => ({ name: `t${index}`, shape: [count] })));

function lengths(elements: readonly number[], shards: number): readonly number[] {
  return cutIntoRuns(sized(elements), shards).map(({ length }) => length / 4);
}

/** The longest run of the best cut, found by trying them all. */
function bestLongest(elements: readonly number[], shards: number): number {
  if (shards === 1) return elements.reduce((sum, count) => sum + count, 0);
  let best = Number.POSITIVE_INFINITY;
  let first = 0;
  for (let cut = 0; cut <= elements.length; cut++) {
    best = Math.min(best, Math.max(first, bestLongest(elements.slice(cut), shards - 1)));
    first += elements[cut] ?? 0;
  }
  return best;
}

const anySizes = fc.array(fc.oneof(fc.nat(5), fc.nat(1000)), { maxLength: 9 });
const anyShards = fc.integer({ min: 1, max: 6 });

describe('cutting an image into shards', () => {
  it.each([
    { elements: [4, 4, 4, 4], shards: 2, expected: [8, 8] },
    { elements: [4, 4, 4, 4, 4, 4, 4, 4], shards: 5, expected: [8, 4, 8, 4, 8] },
    { elements: [1000, 1, 1], shards: 3, expected: [0, 1000, 2] },
    { elements: [1, 1, 1000], shards: 2, expected: [2, 1000] },
    { elements: [5], shards: 3, expected: [0, 5, 0] },
    { elements: [], shards: 2, expected: [0, 0] },
  ])('makes runs of $expected elements out of $elements', ({ elements, shards, expected }) => {
    const cut = lengths(elements, shards);
    expect(cut.reduce((sum, length) => sum + length, 0)).toBe(expected.reduce((sum, length) => sum + length, 0));
    expect(Math.max(...cut)).toBe(Math.max(...expected));
  });

  it('covers the tensors without a gap, and no cut has a shorter longest run', () => {
    fc.assert(
      fc.property(anySizes, anyShards, (elements, shards) => {
        const header = sized(elements);
        const runs = cutIntoRuns(header, shards);
        expect(runs).toHaveLength(shards);
        let at = header.dataAt;
        for (const run of runs) {
          expect(run.at).toBe(at);
          expect(run.length).toBeGreaterThanOrEqual(0);
          at += run.length;
        }
        expect(at).toBe(header.bytes);
        expect(Math.max(...runs.map(({ length }) => length)) / 4).toBe(bestLongest(elements, shards));
      }),
      { numRuns: 500 },
    );
  });

  it('gives every tensor to exactly one shard, in the order of the image', () => {
    fc.assert(
      fc.property(anySizes, anyShards, (elements, shards) => {
        const header = sized(elements);
        const runs = cutIntoRuns(header, shards);
        const tensors = runs.flatMap((_, shard) => tensorsOf(header, runs, shard));
        expect(tensors).toEqual(header.tensors);
      }),
      { numRuns: 500 },
    );
  });

  it('makes files that any reader of safetensors reads, with the very tensors of the image', () => {
    const image = imageOf(SOME_TENSORS);
    const runs = cutIntoRuns(image.header, 3);
    const whole = readSafetensors(image.bytes);
    const names: string[] = [];
    for (const [shard, run] of runs.entries()) {
      const head = shardHeader(image.header, runs, shard);
      expect(head.length % 8).toBe(0);
      const file = readSafetensors(Buffer.concat([head, image.bytes.subarray(run.at, run.at + run.length)]));
      expect(file.metadata).toEqual({ format: 'lockstep shard', shard: String(shard), shards: '3' });
      for (const [name, tensor] of file.tensors) {
        expect(tensor).toEqual(whole.tensors.get(name));
        names.push(name);
      }
    }
    expect(new Set(names)).toEqual(new Set(whole.tensors.keys()));
    expect(names).toHaveLength(whole.tensors.size);
  });

  it('makes a header for each shard that reads as that of an image of its own', () => {
    const { header } = imageOf(SOME_TENSORS);
    const runs = cutIntoRuns(header, 2);
    const head = shardHeader(header, runs, 1);
    const parsed = parseImageHeader(head.subarray(8));
    expect(headerBytes(parsed.text).equals(head)).toBe(true);
    expect(parsed.bytes - parsed.dataAt).toBe(runs[1]?.length);
  });

  it('is quick with 20,000 tensors', timed, () => {
    const header = sized(Array.from({ length: 20_000 }, (_, index) => (index * 7919) % 1000));
    const startMs = performance.now();
    cutIntoRuns(header, 64);
    expect(performance.now() - startMs).toBeLessThan(500);
  });
});
