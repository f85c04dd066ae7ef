import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { areRangesOf, covers } from '../../../worker/collective/byte_ranges.js';

const BYTES = 40;
const range = fc.record({ at: fc.nat(BYTES), length: fc.nat(BYTES) });

describe('ranges', () => {
  it('cover a run exactly when they have each of its bytes', () => {
    const sorted = fc.array(range, { maxLength: 5 }).map((ranges) => ranges.sort((a, b) => a.at - b.at));
    fc.assert(
      fc.property(sorted, range, (ranges, run) => {
        const has = (byte: number): boolean => ranges.some(({ at, length }) => at <= byte && byte < at + length);
        const bytes = Array.from({ length: run.length }, (_, i) => run.at + i);
        expect(covers(ranges, run)).toBe(bytes.every(has));
      }),
    );
  });

  it.each([
    { ranges: [], bytes: 0, are: true },
    { ranges: [{ at: 0, length: 10 }], bytes: 10, are: true },
    { ranges: [{ at: 0, length: 11 }], bytes: 10, are: false },
    { ranges: [{ at: 11, length: 0 }], bytes: 10, are: false },
    {
      ranges: [
        { at: 3, length: 2 },
        { at: 5, length: 0 },
        { at: 5, length: 1 },
      ],
      bytes: 10,
      are: true,
    },
    {
      ranges: [
        { at: 3, length: 2 },
        { at: 4, length: 1 },
      ],
      bytes: 10,
      are: false,
    },
    {
      ranges: [
        { at: 5, length: 1 },
        { at: 3, length: 2 },
      ],
      bytes: 10,
      are: false,
    },
    {
      ranges: [
        { at: 5, length: 3 },
        { at: 9, length: -1 },
      ],
      bytes: 10,
      are: false,
    },
    { ranges: [{ at: -1, length: 3 }], bytes: 10, are: false },
  ])('$ranges are runs of $bytes bytes: $are', ({ ranges, bytes, are }) => {
    expect(areRangesOf(bytes, ranges)).toBe(are);
  });
});
