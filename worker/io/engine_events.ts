/** Checks what an engine writes on its control pipe. An engine runs the user's code, so nothing of it is taken on trust. */
import { z } from 'zod';
import type { EngineEvent } from '../core/engine_protocol.js';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const ms = z.number();
const hash = z.string().regex(/^[0-9a-f]{64}$/);
/** JSON has no NaN and no infinities; the engine writes null for them. */
const loss = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);

const engineEvent = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('started'),
    pid: count,
    torch: z.string().max(64),
    python: z.string().max(64),
    device: z.string().max(64),
    fingerprint: hash,
  }),
  z.object({
    event: z.literal('loaded'),
    vector_bytes: count,
    bf16_bytes: count,
    parameters: count,
    dataset_length: count,
    dataset_digest: hash,
  }),
  z.object({
    event: z.literal('partial'),
    step: count,
    lo: count,
    length: count,
    loss,
    weight: z.number(),
    consumed: z.array(z.string().regex(/^[0-9a-f]{16}$/)),
    data_ms: ms,
    compute_ms: ms,
  }),
  z.object({ event: z.literal('buckets'), step: count, lo: count, length: count, buckets: count }),
  z.object({ event: z.literal('computed'), step: count }),
  z.object({
    event: z.literal('applied'),
    step: count,
    grad_norm: z.number().nullable(),
    lr: z.number().nullable(),
    skipped: z.boolean(),
    apply_ms: ms,
    device_memory: z.object({ used: count, total: count }).nullable(),
  }),
  z.object({ event: z.literal('digest'), weights: hash, state: hash }),
  z.object({ event: z.literal('evaluated'), metrics: z.record(z.string().max(128), z.number()) }),
  z.object({ event: z.literal('finished') }),
  z.object({ event: z.literal('exported'), bytes: count, sha256: hash }),
  z.object({ event: z.literal('state_exported'), bytes: count, sha256: hash }),
  z.object({ event: z.literal('snapshot_taken'), bytes: count, copy_ms: ms }),
  z.object({ event: z.literal('state_imported'), state: hash }),
  z.object({
    event: z.literal('failed'),
    phase: z.string().transform((text) => text.slice(0, 64)),
    kind: z.enum(['user', 'resource', 'engine']),
    message: z.string().transform((text) => text.slice(0, 2_000)),
    traceback: z.string().transform((text) => text.slice(-32_000)),
  }),
]);

/** Throws an error that says what is wrong with the line. */
export function parseEngineEvent(line: string): EngineEvent {
  return engineEvent.parse(JSON.parse(line));
}
