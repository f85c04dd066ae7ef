/** The small JSON documents that peers exchange: what goes with a partial, what goes with a state, and where in memory something is. */
import { z } from 'zod';
import type { ByteRange } from '../checkpoint/checkpoints.js';
import { areRangesOf, MOST_RANGES } from './byte_ranges.js';
import type { PartialFacts } from './data_plane.js';

/** JSON has no NaN, no infinities and no negative zero; a loss may be any of them. */
const double = z.union([z.number(), z.enum(['NaN', 'Infinity', '-Infinity', '-0']).transform(Number)]);

const partialFacts = z.object({
  loss: double,
  weight: double,
  consumed: z.array(z.string().regex(/^[0-9a-f]{16}$/)).max(65_535),
});

/** Of a state; more than any machine has. */
const MOST_STATE_BYTES = 2 ** 44;

/** Length and digest of a whole state, and which runs of it can be pulled. */
export interface StateFacts {
  readonly bytes: number;
  readonly sha256: string;
  /** Sorted, without overlap, within `bytes`; at most MOST_RANGES of them. */
  readonly ranges: readonly ByteRange[];
}

const count = z.number().int().nonnegative();

const stateFacts: z.ZodType<StateFacts> = z
  .object({
    bytes: count.max(MOST_STATE_BYTES),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    ranges: z.array(z.object({ at: count, length: count })).max(MOST_RANGES),
  })
  .refine(({ bytes, ranges }) => areRangesOf(bytes, ranges));

/** Where a peer on this host finds what it asked for, see peer_memory.ts. Descriptors are those of the worker that answers. */
export interface MemoryPlace {
  readonly fd: number;
  readonly inode: number;
  readonly epochFd: number;
  readonly epochInode: number;
  /** What was asked for is there as long as the worker's epoch is this. */
  readonly epoch: number;
  readonly slot: number;
  /** In bytes from the start of the slot. */
  readonly at: number;
  readonly length: number;
}

const memoryPlace: z.ZodType<MemoryPlace> = z.object({
  fd: count,
  inode: count,
  epochFd: count,
  epochInode: count,
  epoch: count,
  slot: count,
  at: count,
  length: count,
});

function jsonDouble(value: number): number | string {
  if (Object.is(value, -0)) return '-0';
  return Number.isFinite(value) ? value : String(value);
}

export function encodePartialFacts(facts: PartialFacts): Buffer {
  return Buffer.from(
    JSON.stringify({ loss: jsonDouble(facts.loss), weight: jsonDouble(facts.weight), consumed: facts.consumed }),
  );
}

/** Of a partial of so many microbatches. Undefined when the bytes are malformed. */
export function decodePartialFacts(bytes: Uint8Array, microbatches: number): PartialFacts | undefined {
  const facts = read(partialFacts, bytes);
  return facts?.consumed.length === microbatches ? facts : undefined;
}

export function encodeStateFacts({ bytes, sha256, ranges }: StateFacts): Buffer {
  const plain = ranges.map(({ at, length }) => ({ at, length }));
  return Buffer.from(JSON.stringify({ bytes, sha256, ranges: plain }));
}

/** Undefined when the bytes are malformed. */
export function decodeStateFacts(bytes: Uint8Array): StateFacts | undefined {
  return read(stateFacts, bytes);
}

export function encodeMemoryPlace(place: MemoryPlace): Buffer {
  return Buffer.from(JSON.stringify(place));
}

/** Undefined when the bytes are malformed. */
export function decodeMemoryPlace(bytes: Uint8Array): MemoryPlace | undefined {
  return read(memoryPlace, bytes);
}

function read<T>(schema: z.ZodType<T>, bytes: Uint8Array): T | undefined {
  try {
    return schema.safeParse(JSON.parse(Buffer.from(bytes).toString('utf8'))).data;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
