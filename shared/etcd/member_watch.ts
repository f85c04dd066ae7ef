/** Who is registered: the workers, or the coordinators. */
import type { Entry, EtcdClient, EtcdLog } from './client.js';
import type { MembersFolder } from './keys.js';
import { type RangeWatch, watchRange } from './range_watch.js';

/** Name of the member to what it registered, parsed from JSON; check it with a schema. */
export type Members = ReadonlyMap<string, unknown>;

export interface WatchMembersOptions {
  readonly client: EtcdClient;
  readonly folder: MembersFolder;
  /** Called with the first answer of etcd and at every change. Must not throw. */
  readonly onMembers: (members: Members) => void;
  readonly log: EtcdLog;
  readonly resyncMs?: number | undefined;
}

export function watchMembers({ client, folder, onMembers, log, resyncMs }: WatchMembersOptions): RangeWatch {
  let lastSeen: string | undefined;
  return watchRange({
    client,
    range: { kind: 'prefix', prefix: folder },
    onSnapshot: ({ entries }) => {
      const seen = [...entries.values()].map((entry) => `${entry.key}@${entry.modRevision}`).sort();
      const fingerprint = seen.join(' ');
      if (fingerprint === lastSeen) return;
      lastSeen = fingerprint;
      onMembers(membersOf(entries.values(), folder, log));
    },
    log,
    resyncMs,
  });
}

export async function readMembers(client: EtcdClient, folder: MembersFolder): Promise<Members> {
  const { entries } = await client.list({ kind: 'prefix', prefix: folder });
  return membersOf(entries, folder);
}

function membersOf(entries: Iterable<Entry>, folder: MembersFolder, log?: EtcdLog): Members {
  const members = new Map<string, unknown>();
  for (const { key, value } of entries) {
    try {
      members.set(key.slice(folder.length), JSON.parse(value));
    } catch {
      log?.warn('a member registered something that is not JSON', { key, value: value.slice(0, 200) });
    }
  }
  return members;
}
