/** Who leads, for everybody who is not a candidate: workers, tools, the dashboard. */
import { z } from 'zod';
import type { Entry, EtcdClient, EtcdLog } from './client.js';
import { leaderKey } from './keys.js';
import { type RangeWatch, watchRange } from './range_watch.js';

export interface Leader {
  /** Create revision of the campaign key. */
  readonly term: number;
  readonly name: string;
  /** host:port of the coordinator's services. */
  readonly address: string;
  /** Address of its dashboard, "http://host:port", if it has one. */
  readonly dashboard?: string | undefined;
}

/** What the campaign key holds. */
const leaderValue = z.object({
  name: z.string(),
  address: z.string(),
  dashboard: z.string().optional(),
  /** Random id of the attempt that created the key: a candidate whose answer was lost finds its own. */
  operation: z.string(),
});
export type LeaderValue = z.infer<typeof leaderValue>;

/** The value of the campaign key, or undefined if somebody wrote something else there. */
export function parseLeaderValue(text: string): LeaderValue | undefined {
  try {
    return leaderValue.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

export interface WatchLeaderOptions {
  readonly client: EtcdClient;
  /** Called with the first answer of etcd and at every change. Must not throw. */
  readonly onLeader: (leader: Leader | undefined) => void;
  readonly log: EtcdLog;
  readonly resyncMs?: number | undefined;
}

export function watchLeader({ client, onLeader, log, resyncMs }: WatchLeaderOptions): RangeWatch {
  let lastTerm: number | undefined;
  return watchRange({
    client,
    range: { kind: 'key', key: leaderKey },
    onSnapshot: ({ entries }) => {
      const leader = leaderOf(entries.get(leaderKey), log);
      const term = leader?.term ?? 0;
      if (term === lastTerm) return;
      lastTerm = term;
      onLeader(leader);
    },
    log,
    resyncMs,
  });
}

export async function readLeader(client: EtcdClient): Promise<Leader | undefined> {
  return leaderOf((await client.get(leaderKey)).entry);
}

function leaderOf(entry: Entry | undefined, log?: EtcdLog): Leader | undefined {
  if (entry === undefined) return undefined;
  const value = parseLeaderValue(entry.value);
  if (value === undefined) {
    log?.warn('the leader key holds something that is not a leader', { value: entry.value.slice(0, 200) });
    return undefined;
  }
  return { term: entry.createRevision, name: value.name, address: value.address, dashboard: value.dashboard };
}
