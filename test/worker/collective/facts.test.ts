import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import { MOST_RANGES } from '../../../worker/collective/byte_ranges.js';
import {
  decodePartialFacts,
  decodeStateFacts,
  encodePartialFacts,
  encodeStateFacts,
  type StateFacts,
} from '../../../worker/collective/facts.js';
import { MOST_PAYLOAD_BYTES } from '../../../worker/collective/peer_service.js';

const sha256 = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 64, maxLength: 64 });

/** Gaps and lengths by turns, so that the ranges are sorted and apart, or touch where a gap is 0. */
const stateFacts: fc.Arbitrary<StateFacts> = fc
  .record({
    steps: fc.array(fc.tuple(fc.nat(1e9), fc.nat(1e9)), { maxLength: 20 }),
    rest: fc.nat(1e9),
    sha256,
  })
  .map(({ steps, rest, sha256 }) => {
    let reached = 0;
    const ranges = steps.map(([gap, length]) => {
      const at = reached + gap;
      reached = at + length;
      return { at, length };
    });
    return { bytes: reached + rest, sha256, ranges };
  });

function decodeJson(value: unknown): StateFacts | undefined {
  return decodeStateFacts(Buffer.from(JSON.stringify(value)));
}

describe('the facts of a state', () => {
  it('say after the wire what they said before', () => {
    fc.assert(
      fc.property(stateFacts, (facts) => {
        expect(decodeStateFacts(encodeStateFacts(facts))).toEqual(facts);
      }),
    );
  });

  it('carry nothing but what they are declared to', () => {
    const facts = { bytes: 1, sha256: 'a'.repeat(64), ranges: [{ at: 0, length: 1, file: '/etc/passwd' }], fd: 9 };
    const plain = { bytes: 1, sha256: 'a'.repeat(64), ranges: [{ at: 0, length: 1 }] };
    expect(JSON.parse(encodeStateFacts(facts).toString())).toEqual(plain);
  });

  it('are refused when a range begins before the end of the one before it', () => {
    fc.assert(
      fc.property(stateFacts, fc.nat(), fc.integer({ min: 1 }), (facts, pick, back) => {
        const ranges = [...facts.ranges];
        const index = 1 + (pick % Math.max(1, ranges.length - 1));
        const [before, moved] = [ranges[index - 1], ranges[index]];
        if (before === undefined || moved === undefined) return;
        ranges[index] = { at: before.at + before.length - back, length: moved.length };
        expect(decodeJson({ ...facts, ranges })).toBeUndefined();
      }),
    );
  });

  it('are refused when a range ends beyond the state', () => {
    fc.assert(
      fc.property(stateFacts, fc.integer({ min: 1, max: 1e9 }), (facts, beyond) => {
        const last = facts.ranges.at(-1) ?? { at: 0, length: 0 };
        const length = facts.bytes - last.at + beyond;
        expect(
          decodeJson({ ...facts, ranges: [...facts.ranges.slice(0, -1), { at: last.at, length }] }),
        ).toBeUndefined();
      }),
    );
  });

  it.each<{ readonly name: string; readonly ranges: unknown }>([
    { name: 'no list', ranges: undefined },
    { name: 'something else than a list', ranges: { at: 0, length: 1 } },
    { name: 'a range without a length', ranges: [{ at: 0 }] },
    { name: 'a negative offset', ranges: [{ at: -1, length: 2 }] },
    { name: 'a negative length', ranges: [{ at: 5, length: -1 }] },
    { name: 'a fraction', ranges: [{ at: 0.5, length: 1 }] },
    { name: 'a number in quotes', ranges: [{ at: '0', length: 1 }] },
    { name: 'an offset that no double holds', ranges: [{ at: 2 ** 53, length: 0 }] },
  ])('are refused when the ranges are $name', ({ ranges }) => {
    expect(decodeJson({ bytes: 10, sha256: 'a'.repeat(64), ranges })).toBeUndefined();
  });

  it('are bounded, and the longest fit in a frame', () => {
    const widest = (count: number): ByteRange[] =>
      Array.from({ length: count }, (_, i) => ({ at: 1e13 + i * 1e9, length: 999_999_999 }));
    const facts = { bytes: 2 ** 44, sha256: 'a'.repeat(64), ranges: widest(MOST_RANGES) };
    expect(decodeStateFacts(encodeStateFacts(facts))).toEqual(facts);
    expect(encodeStateFacts(facts).length).toBeLessThan(MOST_PAYLOAD_BYTES / 2);
    expect(decodeJson({ ...facts, ranges: widest(MOST_RANGES + 1) })).toBeUndefined();
  });
});

describe('the facts of a partial', () => {
  it('say after the wire what they said before, whatever the loss', () => {
    const facts = fc.record({
      loss: fc.double(),
      weight: fc.double(),
      consumed: fc.array(fc.stringMatching(/^[0-9a-f]{16}$/), { maxLength: 9 }),
    });
    fc.assert(
      fc.property(facts, (before) => {
        expect(decodePartialFacts(encodePartialFacts(before), before.consumed.length)).toEqual(before);
      }),
    );
  });

  it('are of as many microbatches as the partial, each with a digest', () => {
    const facts = (consumed: readonly string[]) => encodePartialFacts({ loss: 1, weight: 1, consumed });
    const digest = '0123456789abcdef';
    expect(decodePartialFacts(facts([digest, digest]), 2)).toBeDefined();
    for (const consumed of [[], [digest], [digest, 'x'], [digest, digest.toUpperCase()], [digest, digest, digest]]) {
      expect(decodePartialFacts(facts(consumed), 2)).toBeUndefined();
    }
  });
});
