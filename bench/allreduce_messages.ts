/** What bench:allreduce and its processes say to each other, Lockstep's and Gloo's alike: one JSON object a line. */
import { z } from 'zod';

const vector = { elements: z.number(), format: z.enum(['fp32', 'bf16']) };

const peer = z.object({ worker: z.string(), incarnation: z.string(), peerAddress: z.string() });

/** For a process of Lockstep. Gloo's have their own `join`. */
export const request = z.discriminatedUnion('do', [
  /** Who takes part, by rank. */
  z.object({ do: z.literal('join'), roster: z.array(peer) }),
  /** Make a vector of so many elements, and be ready to reduce it. */
  z.object({ do: z.literal('open'), ...vector }),
  /** One all-reduce of known numbers; compare every element of the result. */
  z.object({ do: z.literal('check') }),
  /** One all-reduce, begun at a time of the machine's monotonic clock, or at once if that has gone by; say how long it took. */
  z.object({ do: z.literal('reduce'), atNs: z.number() }),
  z.object({ do: z.literal('close') }),
]);
export type Request = z.infer<typeof request>;

export const done = z.object({ done: z.literal(true) });

export const checked = z.object({
  /** Elements that are not the sum. */
  wrong: z.number(),
});

export const reduced = z.object({
  ms: z.number(),
  /** Of Lockstep: times that a pull from a peer failed and was made again. */
  failures: z.number().default(0),
});

/** The first answer of a process of Lockstep, to an empty message. */
export const listening = z.object({ port: z.number() });

/** The first answer of a process of Gloo: the port of the store, of rank 0. */
export const storePort = z.object({ port: z.number() });
