import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { Directory } from '../../../shared/checkpoint/directory.js';
import { type Image, imageOf, SOME_TENSORS } from '../../shared/checkpoint/images.js';
import { MemoryDisk } from '../../shared/checkpoint/memory_disk.js';
import { type Restored, restored, StateMemory } from './saving.js';

const states: StateMemory[] = [];
afterAll(() => {
  for (const state of states) state.close();
});

async function savedIn(image: Image, shards: number) {
  const state = new StateMemory(image);
  states.push(state);
  const storage = new Directory('/disk/job', new MemoryDisk());
  const { manifestSha256 } = await state.save(storage, { step: 1, save: 'save', shards });
  return { storage, checkpoint: { name: 'step-000000001', manifestSha256 } };
}

/** What each worker has, with what it lacks copied from those that have it. */
function reassembled(parts: readonly Restored[]): Buffer {
  const [first] = parts;
  if (first === undefined) throw new Error('no parts');
  const whole = Buffer.from(first.memory);
  for (const { own, memory } of parts.slice(1)) {
    for (const { at, length } of own) memory.copy(whole, at, at, at + length);
  }
  return whole;
}

function expectRangesCover(part: Restored, image: Image): void {
  const ranges = [...part.own, ...part.missing].sort((a, b) => a.at - b.at);
  let at = 0;
  for (const range of ranges) {
    expect(range.at).toBe(at);
    expect(range.length).toBeGreaterThan(0);
    at += range.length;
  }
  expect(at).toBe(image.bytes.length);
  expect(part.memory.length).toBe(image.bytes.length);
  for (const range of part.own) {
    const run = [range.at, range.at + range.length] as const;
    expect(part.memory.subarray(...run).equals(image.bytes.subarray(...run))).toBe(true);
  }
}

async function expectRestores(image: Image, shards: number, parts: number): Promise<void> {
  const { storage, checkpoint } = await savedIn(image, shards);
  const all: Restored[] = [];
  for (let part = 0; part < parts; part++) all.push(await restored(storage, checkpoint, { part, parts }));
  for (const part of all) {
    expect(part).toMatchObject({ bytes: image.bytes.length, sha256: image.sha256 });
    expectRangesCover(part, image);
  }
  expect(reassembled(all).equals(image.bytes)).toBe(true);
}

describe('a checkpoint', () => {
  it.each([1, 2, 3, 4, 5])('that %i workers restore together is the image, byte for byte', async (parts) => {
    await expectRestores(imageOf(SOME_TENSORS), 3, parts);
  });

  it.each([
    { what: 'no tensors', tensors: [], shards: 1 },
    { what: 'no tensors and three shards', tensors: [], shards: 3 },
    { what: 'one tensor', tensors: [{ name: 'w', shape: [5] }], shards: 1 },
    { what: 'one tensor and four shards', tensors: [{ name: 'w', shape: [5] }], shards: 4 },
    {
      what: 'only tensors without elements',
      tensors: [
        { name: 'a', shape: [0] },
        { name: 'b', shape: [3, 0] },
      ],
      shards: 2,
    },
    { what: 'more shards than tensors', tensors: SOME_TENSORS, shards: 12 },
  ])('of an image with $what comes back byte for byte', async ({ tensors, shards }) => {
    await expectRestores(imageOf(tensors), shards, 1);
    await expectRestores(imageOf(tensors), shards, 2);
  });

  it('of an image of several pieces comes back byte for byte', async () => {
    const tensors = [300, 1_500_000, 1_200_000, 7].map((elements, index) => ({ name: `t${index}`, shape: [elements] }));
    await expectRestores(imageOf(tensors), 2, 2);
  });

  it('of any image, cut into any number of shards, comes back byte for byte', async () => {
    const shapes = fc.array(fc.array(fc.nat(6), { maxLength: 3 }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(
        shapes,
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 4 }),
        async (all, shards, parts) => {
          await expectRestores(imageOf(all.map((shape, index) => ({ name: `${index}`, shape }))), shards, parts);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('may be restored into memory that is longer already, and leaves the rest as it was', async () => {
    const { storage, checkpoint } = await savedIn(imageOf(SOME_TENSORS), 2);
    const result = await restored(storage, checkpoint);
    expect(result.missing).toEqual([]);
    expect(result.own).toEqual([{ at: 0, length: result.bytes }]);
  });
});
