/** Runs of a state's image: which of them a worker has, and whether what is asked for is among them. Pure. */
import type { ByteRange } from '../checkpoint/checkpoints.js';

/** A worker's part of a checkpoint is a few shards, so a document of facts with more ranges is malformed. */
export const MOST_RANGES = 4096;

/** Whether the ranges are sorted, do not overlap, and end within `bytes`. Empty ranges are allowed: a shard may be empty. */
export function areRangesOf(bytes: number, ranges: readonly ByteRange[]): boolean {
  let reached = 0;
  for (const { at, length } of ranges) {
    if (at < reached || length < 0) return false;
    reached = at + length;
  }
  return reached <= bytes;
}

/** Whether every byte of `run` is in one of the ranges, which are sorted. Ranges that touch count as one. */
export function covers(ranges: readonly ByteRange[], run: ByteRange): boolean {
  let reached = run.at;
  for (const { at, length } of ranges) if (at <= reached) reached = Math.max(reached, at + length);
  return reached >= run.at + run.length;
}
