/** How much memory this process could have, and how much of it nobody uses. */
import { freemem, totalmem } from 'node:os';

export interface MemoryFound {
  readonly limitBytes: number;
  /** What sets the limit. */
  readonly from: string;
  /** What the machine could give without swapping, as far as the limit lets it. */
  readonly freeBytes: number;
}

/** The limit of the control group, if it has one that is below what the machine has. */
export function findMemory(): MemoryFound {
  const group = process.constrainedMemory();
  const machine = totalmem();
  const isLimited = group > 0 && group < machine;
  const limitBytes = isLimited ? group : machine;
  const from = isLimited ? 'limit of the control group' : 'all of the machine';
  return { limitBytes, from, freeBytes: Math.min(freemem(), limitBytes) };
}
