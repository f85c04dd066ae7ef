import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { auditStep, consumedDigest } from '../../shared/consumption.js';
import {
  epochOf,
  filledMicrobatches,
  type PlanShape,
  permutationOf,
  planStep,
  samplesOf,
  samplesOfStep,
  stepsPerEpoch,
} from '../../shared/plan.js';

const shapes = fc
  .record({
    seed: fc.maxSafeNat(),
    datasetLength: fc.integer({ min: 1, max: 400 }),
    perMicrobatch: fc.integer({ min: 1, max: 5 }),
    microbatches: fc.integer({ min: 1, max: 9 }),
    tail: fc.constantFrom<'drop' | 'keep'>('drop', 'keep'),
    shuffle: fc.boolean(),
  })
  .map(({ perMicrobatch, ...rest }): PlanShape => ({ ...rest, batch: perMicrobatch * rest.microbatches }))
  .filter((shape) => stepsPerEpoch(shape) > 0);

describe('the plan', () => {
  it('uses each sample of an epoch exactly once, but for the dropped tail', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 0, max: 3 }), (shape, epoch) => {
        const perEpoch = stepsPerEpoch(shape);
        const used: number[] = [];
        for (let i = 0; i < perEpoch; i++) {
          const plan = planStep(shape, epoch * perEpoch + i);
          expect(plan.epoch).toBe(epoch);
          expect(epochOf(shape, epoch * perEpoch + i)).toBe(epoch);
          expect(plan.samples).toHaveLength(shape.microbatches);
          expect(plan.samples.flat()).toHaveLength(plan.count);
          used.push(...plan.samples.flat());
        }
        expect(new Set(used).size).toBe(used.length);
        expect(used.every((id) => id >= 0 && id < shape.datasetLength)).toBe(true);
        expect(used.length).toBe(shape.tail === 'keep' ? shape.datasetLength : perEpoch * shape.batch);
      }),
    );
  });

  it('gives all microbatches of a whole step the same number of samples', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const plan = planStep(shape, 0);
        if (plan.count < shape.batch) return;
        expect(plan.samples.map((samples) => samples.length)).toEqual(
          Array(shape.microbatches).fill(shape.batch / shape.microbatches),
        );
      }),
    );
  });

  it('permutes any length, and differently for another seed or epoch', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(1000), fc.integer({ min: 1, max: 2000 }), (seed, epoch, length) => {
        const order = permutationOf(seed, epoch, length);
        expect(new Set(Array.from({ length }, (_, i) => order(i))).size).toBe(length);
      }),
      { numRuns: 50 },
    );
    const first = (seed: number, epoch: number) =>
      Array.from({ length: 50 }, (_, i) => permutationOf(seed, epoch, 1e6)(i));
    expect(first(1, 0)).not.toEqual(first(1, 1));
    expect(first(1, 0)).not.toEqual(first(2, 0));
    expect(first(1, 0)).not.toEqual(first(1 + 2 ** 40, 0));
  });

  it('needs no table for 2^50 samples', () => {
    const order = permutationOf(7, 3, 2 ** 50);
    const drawn = new Set(Array.from({ length: 1000 }, (_, i) => order(i)));
    expect(drawn.size).toBe(1000);
    expect([...drawn].every((id) => Number.isSafeInteger(id) && id < 2 ** 50)).toBe(true);
    expect(Math.max(...drawn)).toBeGreaterThan(2 ** 49);
  });

  it('spreads neighbours over the whole data set', () => {
    const length = 60_000;
    const order = permutationOf(1234, 0, length);
    const mean = Array.from({ length: 1000 }, (_, i) => order(i)).reduce((a, b) => a + b, 0) / 1000;
    expect(Math.abs(mean / length - 0.5)).toBeLessThan(0.05);
  });

  it('stays as it is: a change of the order would change the weights of every job', () => {
    const shape: PlanShape = {
      seed: 1234,
      datasetLength: 1000,
      batch: 8,
      microbatches: 4,
      tail: 'drop',
      shuffle: true,
    };
    expect(planStep(shape, 0).samples).toMatchInlineSnapshot(`
      [
        [
          901,
          691,
        ],
        [
          297,
          304,
        ],
        [
          533,
          946,
        ],
        [
          944,
          143,
        ],
      ]
    `);
    expect(planStep(shape, 130).samples).toMatchInlineSnapshot(`
      [
        [
          729,
          413,
        ],
        [
          624,
          84,
        ],
        [
          593,
          255,
        ],
        [
          962,
          606,
        ],
      ]
    `);
  });
});

describe('the audit of a step', () => {
  const shape: PlanShape = { seed: 5, datasetLength: 100, batch: 10, microbatches: 4, tail: 'keep', shuffle: true };
  const plan = planStep(shape, 3);
  const honest = Buffer.from(plan.samples.map((ids) => consumedDigest(ids)).join(''), 'hex');

  it('finds nothing when the engines consumed what was planned', () => {
    expect(auditStep(plan, honest)).toEqual({ lost: 0, repeated: 0 });
  });

  it('counts the samples of each microbatch whose digest differs or is missing', () => {
    const flipped = Buffer.from(honest);
    flipped[9] = (flipped[9] ?? 0) ^ 1;
    expect(auditStep(plan, flipped)).toEqual({ lost: plan.samples[1]?.length, repeated: plan.samples[1]?.length });
    expect(auditStep(plan, honest.subarray(0, 24)).lost).toBe(plan.samples[3]?.length);
    expect(auditStep(planStep(shape, 4), honest).lost).toBe(10);
  });

  it('hashes the ids as little-endian 64-bit integers, as the engine does', () => {
    expect(consumedDigest([])).toBe('e3b0c44298fc1c14');
    expect(consumedDigest([1, 2 ** 40])).toBe('d5f8d0fff174795d');
  });
});

it('gives the samples of some microbatches, and how many are filled, as those of the whole step', () => {
  const arbitraryShape = fc.record({
    seed: fc.nat(),
    datasetLength: fc.integer({ min: 1, max: 300 }),
    batch: fc.integer({ min: 1, max: 64 }),
    microbatches: fc.integer({ min: 1, max: 16 }),
    tail: fc.constant('keep' as const),
    shuffle: fc.boolean(),
  });
  fc.assert(
    fc.property(arbitraryShape, fc.nat(50), fc.nat(15), fc.nat(16), (shape, step, lo, length) => {
      const { samples, count } = planStep(shape, step);
      const part = samplesOf(
        shape,
        step,
        lo % shape.microbatches,
        Math.min(length, shape.microbatches - (lo % shape.microbatches)),
      );
      expect(part).toEqual(samples.slice(lo % shape.microbatches, (lo % shape.microbatches) + length));
      expect(filledMicrobatches(shape, step)).toBe(samples.filter((ids) => ids.length > 0).length);
      expect(samplesOfStep(shape, step)).toBe(count);
    }),
  );
});
