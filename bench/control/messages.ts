/** What the benchmark and its fleets of simulated workers say to each other over the channels between the processes. */
import { z } from 'zod';

const count = z.number().int().nonnegative();

/** To a fleet. */
export const order = z.discriminatedUnion('kind', [
  /** Workers that join, by number, and where the coordinator listens. A number that joins again is a new incarnation. */
  z.object({ kind: z.literal('join'), workers: z.array(count), port: count, term: count, workersAJob: count }),
  /** The connections of these are reset, as when their machine's kernel has ended them, and they are gone. */
  z.object({ kind: z.literal('vanish'), workers: z.array(count) }),
  /** The step is reduced: whoever waits for it in this generation commits it. */
  z.object({ kind: z.literal('reduced'), job: z.string(), generation: count, step: count }),
  z.object({ kind: z.literal('count') }),
]);
export type Order = z.infer<typeof order>;

/** From a fleet. Times are milliseconds of the machine's monotonic clock, the same in every process. */
export const news = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('vanished'), worker: count, job: z.string(), atMs: z.number() }),
  z.object({ kind: z.literal('loaded'), worker: count, job: z.string(), atMs: z.number() }),
  /** So many more workers of this process wait for the step to be reduced. */
  z.object({
    kind: z.literal('reducing'),
    job: z.string(),
    generation: count,
    step: count,
    members: count,
    more: count,
  }),
  /** So many more workers of this process were told of the generation, the last of them at `atMs`. */
  z.object({
    kind: z.literal('told'),
    phase: z.enum(['prepare', 'start']),
    job: z.string(),
    generation: count,
    members: count,
    more: count,
    atMs: z.number(),
  }),
  /** Since the process began. */
  z.object({ kind: z.literal('counted'), sent: count, received: count, cpuMs: z.number() }),
]);
export type News = z.infer<typeof news>;

export const loopDelay = z.object({ meanMs: z.number(), p99Ms: z.number(), maxMs: z.number() });
/** How late the event loop of a process was, since it was asked last. */
export type LoopDelay = z.infer<typeof loopDelay>;

/** Milliseconds of a clock that all processes of this machine share. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
