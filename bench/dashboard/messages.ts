/** What bench:dashboard says to the processes that it starts beside the cluster, and hears from them. */
import { z } from 'zod';

const count = z.number().int().nonnegative();

/** To the source of events. */
export const sourceOrder = z.discriminatedUnion('kind', [
  /** As many workers, each with the label `source` of its number, and so with a job of its own. */
  z.object({ kind: z.literal('join'), workers: count, address: z.string(), term: count }),
  /** Steps a second, of all its jobs together. */
  z.object({ kind: z.literal('rate'), stepsPerSecond: z.number().nonnegative() }),
]);
export type SourceOrder = z.infer<typeof sourceOrder>;

/** To the pages. */
export const pagesOrder = z.discriminatedUnion('kind', [
  /** Each looks at the cluster and at one of the jobs, in turn. */
  z.object({ kind: z.literal('open'), url: z.string(), pages: count, jobs: z.array(z.string()).min(1) }),
  z.object({ kind: z.literal('close') }),
]);
export type PagesOrder = z.infer<typeof pagesOrder>;

/** From the pages. */
export const pagesNews = z.discriminatedUnion('kind', [
  /** All of them have a snapshot. */
  z.object({ kind: z.literal('opened') }),
  /** What they were given since they were opened, all together. */
  z.object({
    kind: z.literal('closed'),
    messages: count,
    bytes: count,
    /** Deltas whose number did not follow the one before. */
    missed: count,
    /** The longest time in which one of them was given nothing. */
    silentMs: z.number(),
    /** Connections that the coordinator ended. */
    lost: count,
  }),
]);
export type PagesNews = z.infer<typeof pagesNews>;
export type PagesClosed = Extract<PagesNews, { kind: 'closed' }>;
