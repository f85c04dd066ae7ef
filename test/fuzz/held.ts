/** What the process that holds connections is told, and what it tells. */
import { z } from 'zod';

export const heldOptions = z.object({
  host: z.string(),
  port: z.number(),
  /** An address of its own, so that it can keep out nobody but itself. */
  localAddress: z.string(),
  count: z.number(),
  /** Part of them that says nothing at all. */
  silentShare: z.number(),
  /** With the certificate of those that speak. */
  tlsFolder: z.string().optional(),
});
export type HeldOptions = z.infer<typeof heldOptions>;

export const held = z.object({
  /** All were opened once. */
  isWhole: z.boolean(),
  /** Open now, and not only just. */
  settled: z.number(),
  opened: z.number(),
  /** Closed at once. */
  refused: z.number(),
  /** Closed later: a deadline. */
  dropped: z.number(),
});
export type Held = z.infer<typeof held>;
