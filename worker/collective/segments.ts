/**
 * How the exchange vector is cut: into buckets of 4 MiB, each bucket into one segment a worker, each segment into chunks.
 * Everything is in bytes from the start of the vector or of the part named. Pure.
 */

/** 1,048,576 fp32 elements. */
export const BUCKET_BYTES = 4 * 1024 * 1024;

/** Segments begin at multiples of 16 elements, a cache line. */
const SEGMENT_ALIGNMENT_BYTES = 64;

/** The most payload bytes in one frame. */
export const CHUNK_BYTES = 512 * 1024;

export interface Span {
  readonly at: number;
  readonly length: number;
}

export function bucketCount(vectorBytes: number): number {
  return Math.ceil(vectorBytes / BUCKET_BYTES);
}

/** Where a bucket is in the vector; empty beyond its end. */
export function bucketSpan(vectorBytes: number, bucket: number): Span {
  const at = Math.min(vectorBytes, bucket * BUCKET_BYTES);
  return { at, length: Math.min(BUCKET_BYTES, vectorBytes - at) };
}

/** Where segment number `segment` of `segments` of a bucket is in the vector. Segments differ by at most one cache line; some may be empty. */
export function segmentSpan(vectorBytes: number, bucket: number, segment: number, segments: number): Span {
  const { at, length } = bucketSpan(vectorBytes, bucket);
  const lines = Math.ceil(length / SEGMENT_ALIGNMENT_BYTES);
  const edge = (index: number): number =>
    Math.min(length, Math.floor((index * lines) / segments) * SEGMENT_ALIGNMENT_BYTES);
  const begin = edge(segment);
  return { at: at + begin, length: edge(segment + 1) - begin };
}

/** No segment is longer when a bucket is cut into so many. */
export function longestSegment(segments: number): number {
  return Math.ceil(BUCKET_BYTES / SEGMENT_ALIGNMENT_BYTES / segments) * SEGMENT_ALIGNMENT_BYTES;
}

export function chunkCount(segmentBytes: number): number {
  return Math.ceil(segmentBytes / CHUNK_BYTES);
}
