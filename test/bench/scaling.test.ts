import { describe, expect, it } from 'vitest';
import { groupsFor, placementsOf, stepCostOf, twoLevelCost } from '../../bench/scaling/formulas.js';
import { plannedCost } from '../../bench/scaling/planned.js';
import { BUCKET_BYTES } from '../../worker/collective/segments.js';

const VECTOR_BYTES = 2 * BUCKET_BYTES;
const CACHE_LINE = 64;

describe('the costs of a step in docs/scaling.md', () => {
  it.each([
    [1, 4],
    [2, 2],
    [3, 12],
    [7, 16],
    [10, 16],
    [64, 64],
    [100, 128],
    [1000, 1024],
  ])('are what the plan of a reduce pulls on %i workers with %i microbatches', (workers, microbatches) => {
    const shape = { workers, microbatches, vectorBytes: VECTOR_BYTES };
    const placements = placementsOf(shape);
    for (const rank of new Set([0, Math.floor(workers / 3), workers - 1])) {
      const plan = plannedCost(shape, placements, rank);
      const formula = stepCostOf(shape, placements, rank);
      expect(plan.requests).toBe(formula.requests);
      expect(plan.frames).toBe(formula.frames);
      expect(plan.streams).toBe(formula.streams);
      // Segments are whole cache lines, and every input may have one more than the mean.
      expect(Math.abs(plan.bytes - formula.bytes)).toBeLessThanOrEqual(2 * CACHE_LINE * (placements.length + 1));
    }
  });

  it('have a partial a worker where the microbatches are a power of two for each', () => {
    for (const workers of [1, 3, 5, 8, 12]) {
      const microbatches = 4 * workers;
      // Blocks of four leaves are subtrees whatever the number of leaves.
      expect(placementsOf({ workers, microbatches, vectorBytes: 4 })).toHaveLength(workers);
    }
  });

  it('have about two roots of streams in two levels, and the same bytes', () => {
    const shape = { workers: 1024, microbatches: 1024, vectorBytes: VECTOR_BYTES };
    expect(groupsFor(shape)).toEqual({ groups: 32, members: 32 });
    const flat = stepCostOf(shape, placementsOf(shape), 0);
    const two = twoLevelCost(shape, 1);
    expect(two.bytes).toBe(flat.bytes);
    expect(two.streams).toBe(62);
  });
});
