import fc from 'fast-check';
import { expect, test } from 'vitest';
import { newestWhole, retained } from '../../../coordinator/core/retention.js';
import type { CheckpointRecord } from '../../../coordinator/core/state.js';

function checkpoint(committed: number, damage = ''): CheckpointRecord {
  return {
    job: 'j1',
    committed,
    path: `/c/j1/step-${committed}`,
    manifestSha256: '',
    stateSha256: '',
    bytes: 1,
    timeMs: 0,
    progress: { committed, loss: null, samplesLost: 0, samplesRepeated: 0 },
    damage,
  };
}

const steps = (checkpoints: readonly CheckpointRecord[]) => checkpoints.map(({ committed }) => committed);

test.each([
  { keep: 2, every: 0, given: [10, 20, 30, 40], kept: [30, 40] },
  { keep: 1, every: 20, given: [10, 20, 30, 40, 50], kept: [20, 40, 50] },
  { keep: 3, every: 0, given: [10], kept: [10] },
])('of $given, the newest $keep and multiples of $every are kept: $kept', ({ keep, every, given, kept }) => {
  const spec = { checkpointKeep: keep, checkpointKeepEvery: every };
  expect(
    steps(
      retained(
        given.map((step) => checkpoint(step)),
        spec,
      ),
    ),
  ).toEqual(kept);
});

test('a damaged checkpoint does not count as one of those that are kept', () => {
  const given = [checkpoint(10), checkpoint(20), checkpoint(30, 'a flipped bit')];
  const kept = retained(given, { checkpointKeep: 2, checkpointKeepEvery: 0 });
  expect(steps(kept)).toEqual([10, 20, 30]);
  expect(newestWhole(kept)?.committed).toBe(20);
});

test('retention never removes the newest whole checkpoint', () => {
  const list = fc
    .uniqueArray(fc.record({ step: fc.nat(1000), damaged: fc.boolean() }), { selector: ({ step }) => step })
    .map((all) =>
      [...all]
        .sort((left, right) => left.step - right.step)
        .map(({ step, damaged }) => checkpoint(step, damaged ? 'x' : '')),
    );
  const spec = fc.record({ checkpointKeep: fc.integer({ min: 1, max: 5 }), checkpointKeepEvery: fc.nat(50) });
  fc.assert(
    fc.property(list, spec, (checkpoints, policy) => {
      const kept = retained(checkpoints, policy);
      expect(newestWhole(kept)).toEqual(newestWhole(checkpoints));
      expect(retained(kept, policy)).toEqual(kept);
    }),
  );
});
