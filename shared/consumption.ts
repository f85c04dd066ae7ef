/** Digests of the sample ids that a microbatch consumed, as the engine computes them (docs/engine_protocol.md). */
import { hash } from 'node:crypto';
import type { StepPlan } from './plan.js';

export const CONSUMED_BYTES = 8;

/** 16 hexadecimal digits: the first 8 bytes of sha256 over the ids as little-endian unsigned 64-bit integers. */
export function consumedDigest(samples: readonly number[]): string {
  const ids = Buffer.allocUnsafe(samples.length * 8);
  samples.forEach((id, index) => {
    ids.writeUInt32LE(id >>> 0, index * 8);
    ids.writeUInt32LE(Math.floor(id / 2 ** 32), index * 8 + 4);
  });
  return hash('sha256', ids, 'hex').slice(0, CONSUMED_BYTES * 2);
}

export interface Consumption {
  readonly lost: number;
  readonly repeated: number;
}

/**
 * Compares what the engines consumed in a step, 8 bytes a microbatch, with the plan. Where they differ, the samples of the plan
 * are lost, and whatever was consumed in their place belongs elsewhere.
 */
export function auditStep(plan: StepPlan, consumed: Uint8Array): Consumption {
  const hex = Buffer.from(consumed).toString('hex');
  let wrong = 0;
  plan.samples.forEach((samples, m) => {
    const reported = hex.slice(m * CONSUMED_BYTES * 2, (m + 1) * CONSUMED_BYTES * 2);
    if (reported !== consumedDigest(samples)) wrong += samples.length;
  });
  return { lost: wrong, repeated: wrong };
}
