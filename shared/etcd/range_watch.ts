/**
 * Follows a range of keys for ever: list, then watch from the next revision; when the watch dies (etcd restarted, revision
 * compacted, connection lost) or has become old, list again. A watch that silently stopped is thereby found too.
 */
import { BackOff } from './back_off.js';
import type { Change, Entry, EtcdClient, EtcdLog, KeyRange } from './client.js';
import { deferred } from './deferred.js';
import type { EtcdFailure } from './errors.js';
import { FailureLog } from './failure_log.js';

/** All entries of the range as they were at `revision`, by key. */
export interface Snapshot {
  readonly revision: number;
  readonly entries: ReadonlyMap<string, Entry>;
}

export interface RangeWatchOptions {
  readonly client: EtcdClient;
  readonly range: KeyRange;
  /** Called after every listing, changed or not, and after every change. Revisions never go back. Must not throw. */
  readonly onSnapshot: (snapshot: Snapshot) => void;
  readonly log: EtcdLog;
  /** Longest time without a full listing. */
  readonly resyncMs?: number | undefined;
}

export interface RangeWatch {
  close(): void;
  /**
   * It does not list, watch or try to any more. That is never so, whether etcd can be reached or not, unless something here is broken:
   * every call and every watch has an end.
   */
  hasStopped(nowMs: number): boolean;
}

const defaultResyncMs = 30_000;
/** Far above what a call and a pause after its failure take. */
const MARGIN_MS = 60_000;

export function watchRange(options: RangeWatchOptions): RangeWatch {
  const closed = new AbortController();
  const limitMs = (options.resyncMs ?? defaultResyncMs) + MARGIN_MS;
  let turnedMs = performance.now();
  void follow(options, closed.signal, () => {
    turnedMs = performance.now();
  });
  return {
    close: () => closed.abort(),
    hasStopped: (nowMs) => !closed.signal.aborted && nowMs - turnedMs > limitMs,
  };
}

async function follow(options: RangeWatchOptions, closed: AbortSignal, onTurn: () => void): Promise<void> {
  const { range, log } = options;
  const backOff = new BackOff({ firstMs: 50, maxMs: 1000 });
  const failures = new FailureLog(log, `watch of ${range.kind === 'key' ? range.key : range.prefix}`);
  while (!closed.aborted) {
    onTurn();
    try {
      await followOnce(options, closed, () => {
        backOff.reset();
        failures.succeeded();
      });
    } catch (error) {
      if (closed.aborted) return;
      failures.failed(error);
      await backOff.wait(closed);
    }
  }
}

/** Lists, then watches until it is time for a resync. Rejects when the listing or the watch fails. */
async function followOnce(options: RangeWatchOptions, closed: AbortSignal, onListed: () => void): Promise<void> {
  const listing = await options.client.list(options.range);
  if (closed.aborted) return;
  onListed();
  let snapshot: Snapshot = {
    revision: listing.revision,
    entries: new Map(listing.entries.map((entry) => [entry.key, entry])),
  };
  options.onSnapshot(snapshot);
  if (closed.aborted) return; // By whoever heard of it.
  const ended = deferred();
  const watch = options.client.watch({
    range: options.range,
    startRevision: listing.revision + 1,
    onChanges: (changes, revision) => {
      snapshot = { revision, entries: changed(snapshot.entries, changes) };
      options.onSnapshot(snapshot);
    },
    onEnd: (failure: EtcdFailure) => ended.reject(failure),
  });
  const resync = setTimeout(ended.resolve, options.resyncMs ?? defaultResyncMs);
  closed.addEventListener('abort', ended.resolve);
  try {
    await ended.promise;
  } finally {
    closed.removeEventListener('abort', ended.resolve);
    clearTimeout(resync);
    watch.close();
  }
}

function changed(entries: ReadonlyMap<string, Entry>, changes: readonly Change[]): ReadonlyMap<string, Entry> {
  const next = new Map(entries);
  for (const change of changes) {
    if (change.kind === 'put') next.set(change.entry.key, change.entry);
    else next.delete(change.key);
  }
  return next;
}
