import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BUCKET_BYTES,
  bucketCount,
  bucketSpan,
  chunkCount,
  longestSegment,
  segmentSpan,
} from '../../../worker/collective/segments.js';

describe('segments', () => {
  it('of a bucket lie one after the other and leave nothing out, for any vector and roster', () => {
    const vector = fc.integer({ min: 1, max: 3 * 1_048_576 }).map((elements) => elements * 4);
    fc.assert(
      fc.property(vector, fc.integer({ min: 1, max: 70 }), (vectorBytes, segments) => {
        let at = 0;
        for (let bucket = 0; bucket < bucketCount(vectorBytes); bucket++) {
          expect(bucketSpan(vectorBytes, bucket).at).toBe(at);
          for (let segment = 0; segment < segments; segment++) {
            const span = segmentSpan(vectorBytes, bucket, segment, segments);
            expect(span.at).toBe(at);
            // Only empty segments, at the ragged end of the vector, may begin off a cache line.
            expect(span.length === 0 || span.at % 64 === 0).toBe(true);
            at += span.length;
          }
        }
        expect(at).toBe(vectorBytes);
      }),
      { numRuns: 200 },
    );
  });

  it('of a whole bucket differ by at most one cache line', () => {
    for (const segments of [1, 2, 3, 7, 64]) {
      const lengths = Array.from(
        { length: segments },
        (_, segment) => segmentSpan(BUCKET_BYTES, 0, segment, segments).length,
      );
      expect(Math.max(...lengths)).toBe(longestSegment(segments));
      expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(64);
    }
  });

  it.each([
    { vectorBytes: 4, bucket: 0, segment: 0, segments: 2, at: 0, length: 0 },
    { vectorBytes: 4, bucket: 0, segment: 1, segments: 2, at: 0, length: 4 },
    { vectorBytes: 200, bucket: 0, segment: 0, segments: 2, at: 0, length: 128 },
    { vectorBytes: 200, bucket: 0, segment: 1, segments: 2, at: 128, length: 72 },
    { vectorBytes: BUCKET_BYTES + 64, bucket: 1, segment: 0, segments: 1, at: BUCKET_BYTES, length: 64 },
    { vectorBytes: BUCKET_BYTES, bucket: 1, segment: 0, segments: 1, at: BUCKET_BYTES, length: 0 },
  ])('number $segment of $segments in bucket $bucket of $vectorBytes bytes is $length bytes at $at', (row) => {
    const span = segmentSpan(row.vectorBytes, row.bucket, row.segment, row.segments);
    expect(span).toEqual({ at: row.at, length: row.length });
  });

  it.each([
    [0, 0],
    [1, 1],
    [524_288, 1],
    [524_289, 2],
  ])('of %i bytes have %i chunks', (bytes, chunks) => {
    expect(chunkCount(bytes)).toBe(chunks);
  });
});
