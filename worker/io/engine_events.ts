/** Checks what an engine writes on its control pipe. An engine runs the user's code, so nothing of it is taken on trust. */
import { z } from 'zod';
import type { EngineEvent } from '../core/engine_protocol.js';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
/** A third of a year: no time that is computed from such ones leaves the numbers. */
const MOST_MS = 1e10;
const ms = z.number().min(0).max(MOST_MS);
/** More than any machine has; so that nothing that is computed from a length leaves the whole numbers. */
const MOST_BYTES = 2 ** 44;
const bytes = z.number().int().min(0).max(MOST_BYTES);
/** Of the exchange vector, and of its part that is bf16. */
const vectorBytes = bytes.multipleOf(64);
/** Characters of what is said of a line that is wrong. */
const LONGEST_PROBLEM = 500;
/** As many as a coordinator takes. */
const MOST_METRICS = 256;
const hash = z.string().regex(/^[0-9a-f]{64}$/);
/** JSON has no NaN and no infinities; the engine writes null for them. */
const loss = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);

const metrics = z
  .record(z.string().max(128), z.number())
  .refine((given) => Object.keys(given).length <= MOST_METRICS, `more than ${MOST_METRICS} metrics`);

const engineEvent = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('started'),
    pid: z.number().int().min(1).max(0xffffffff),
    torch: z.string().max(64),
    python: z.string().max(64),
    device: z.string().max(64),
    fingerprint: hash,
  }),
  z.object({
    event: z.literal('loaded'),
    vector_bytes: vectorBytes.min(64),
    bf16_bytes: vectorBytes,
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
    weight: z.number().min(0),
    consumed: z.array(z.string().regex(/^[0-9a-f]{16}$/)),
    data_ms: ms,
    compute_ms: ms,
  }),
  z.object({ event: z.literal('buckets'), step: count, lo: count, length: count, buckets: count }),
  z.object({ event: z.literal('microbatch'), step: count }),
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
  z.object({ event: z.literal('evaluated'), metrics }),
  z.object({ event: z.literal('finished') }),
  z.object({ event: z.literal('exported'), bytes, sha256: hash }),
  z.object({ event: z.literal('state_exported'), bytes, sha256: hash }),
  z.object({ event: z.literal('snapshot_taken'), bytes, copy_ms: ms }),
  z.object({ event: z.literal('state_imported'), state: hash }),
  z.object({
    event: z.literal('failed'),
    phase: z.string().transform((text) => text.slice(0, 64)),
    kind: z.enum(['user', 'resource', 'engine']),
    message: z.string().transform((text) => text.slice(0, 2_000)),
    traceback: z.string().transform((text) => text.slice(-32_000)),
  }),
]);

const answer = z.object({ id: z.number().optional() });

export interface Said {
  readonly event: EngineEvent;
  /** The number of the command that it answers. */
  readonly answers: number | undefined;
}

/** Throws an error that says what is wrong with the line. */
export function parseEngineEvent(line: string): Said {
  const value: unknown = JSON.parse(line);
  const event = engineEvent.parse(value);
  // What has failed may have had no number.
  return { event, answers: event.event === 'failed' ? undefined : answer.parse(value).id };
}

/** What is wrong with the line, in one line that names the first field that is wrong. */
export function problemOf(error: unknown): string {
  if (!(error instanceof z.ZodError)) return String(error).slice(0, LONGEST_PROBLEM);
  const [issue] = error.issues;
  return `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`.slice(0, LONGEST_PROBLEM);
}
