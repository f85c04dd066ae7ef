/** The two small JSON documents that peers exchange: what goes with a partial, and what goes with a state. */
import { z } from 'zod';
import type { PartialFacts } from './data_plane.js';

/** JSON has no NaN, no infinities and no negative zero; a loss may be any of them. */
const double = z.union([z.number(), z.enum(['NaN', 'Infinity', '-Infinity', '-0']).transform(Number)]);

const partialFacts = z.object({ loss: double, weight: double, consumed: z.array(z.string().max(64)).max(65_535) });

const stateFacts = z.object({
  bytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
/** Length and digest of an exported state. */
export type StateFacts = z.infer<typeof stateFacts>;

function jsonDouble(value: number): number | string {
  if (Object.is(value, -0)) return '-0';
  return Number.isFinite(value) ? value : String(value);
}

export function encodePartialFacts(facts: PartialFacts): Buffer {
  return Buffer.from(
    JSON.stringify({ loss: jsonDouble(facts.loss), weight: jsonDouble(facts.weight), consumed: facts.consumed }),
  );
}

/** Undefined when the bytes are malformed. */
export function decodePartialFacts(bytes: Uint8Array): PartialFacts | undefined {
  return read(partialFacts, bytes);
}

export function encodeStateFacts({ bytes, sha256 }: StateFacts): Buffer {
  return Buffer.from(JSON.stringify({ bytes, sha256 }));
}

/** Undefined when the bytes are malformed. */
export function decodeStateFacts(bytes: Uint8Array): StateFacts | undefined {
  return read(stateFacts, bytes);
}

function read<T>(schema: z.ZodType<T>, bytes: Uint8Array): T | undefined {
  try {
    return schema.safeParse(JSON.parse(Buffer.from(bytes).toString('utf8'))).data;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
