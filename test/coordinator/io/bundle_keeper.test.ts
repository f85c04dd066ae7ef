import { beforeEach, describe, expect, it } from 'vitest';
import type { BundlesInUse } from '../../../coordinator/core/bundles_in_use.js';
import { BundleKeeper, NoRoomForBundle } from '../../../coordinator/io/bundle_keeper.js';
import { BundleFenced, BundleStore, type StoredBundle } from '../../../coordinator/io/bundle_store.js';
import { connectEtcd } from '../../../shared/etcd/client.js';

const UNUSED_MS = 1000;
const log = { info: () => {}, warn: () => {} };

/** Archives in memory; the connection is never used. */
class MemoryStore extends BundleStore {
  readonly stored = new Map<string, StoredBundle>();
  failing = false;

  constructor() {
    super(connectEtcd({ endpoints: ['http://127.0.0.1:1'], prefix: '/x/', callTimeoutMs: 1 }));
  }

  override async list(): Promise<readonly StoredBundle[]> {
    return [...this.stored.values()];
  }

  override async write(_: number, sha256: string, archive: Buffer): Promise<StoredBundle> {
    if (this.failing) throw new Error('etcd does not answer');
    const bundle = { sha256, bytes: archive.length, pieces: 1, whole: true, createRevision: 1 };
    this.stored.set(sha256, bundle);
    return bundle;
  }

  override async remove(_: number, { sha256 }: StoredBundle): Promise<void> {
    if (this.failing) throw new Error('etcd does not answer');
    this.stored.delete(sha256);
  }
}

let store: MemoryStore;
let keeper: BundleKeeper;
let inUse: BundlesInUse;
let term: number | undefined;
let nowMs = 0;

beforeEach(async () => {
  store = new MemoryStore();
  inUse = { needed: new Set(), remembered: [] };
  term = 1;
  nowMs = 0;
  keeper = new BundleKeeper({
    ...{ store, inUse: () => inUse, term: () => term, log, nowMs: () => nowMs },
    ...{ maxStoredBytes: 100, maxWrittenBytes: 150, unusedMs: UNUSED_MS },
  });
  keeper.close();
  await keeper.lead(1);
});

const names = (): readonly string[] => [...store.stored.keys()].sort();
const keep = (name: string, bytes: number): Promise<void> => keeper.keep(name, Buffer.alloc(bytes));

describe('an archive', () => {
  it('is held once it is stored, and known to the next leader', async () => {
    expect(keeper.holds('a')).toBe(false);
    await keep('a', 10);
    expect(keeper.holds('a')).toBe(true);
    term = 2;
    await keeper.lead(2);
    expect(keeper.holds('a')).toBe(true);
  });

  it('that no job refers to goes after some time, and not before', async () => {
    await keep('used', 10);
    await keep('remembered', 10);
    await keep('unused', 10);
    inUse = { needed: new Set(['used']), remembered: ['remembered'] };
    await keeper.sweep();
    nowMs += UNUSED_MS - 1;
    await keeper.sweep();
    expect(names()).toEqual(['remembered', 'unused', 'used']);
    nowMs += 1;
    await keeper.sweep();
    expect(names()).toEqual(['remembered', 'used']);
    expect(keeper.holds('unused')).toBe(false);
  });

  it('that is uploaded again is waited for again', async () => {
    await keep('a', 10);
    await keeper.sweep();
    nowMs += UNUSED_MS;
    await keep('a', 10);
    await keeper.sweep();
    expect(names()).toEqual(['a']);
  });

  it('that somebody has asked for is waited for again', async () => {
    await keep('a', 10);
    await keeper.sweep();
    nowMs += UNUSED_MS;
    expect([keeper.reserve('a'), keeper.reserve('b')]).toEqual([true, false]);
    await keeper.sweep();
    expect(names()).toEqual(['a']);
  });

  it('that is not whole goes as well', async () => {
    store.stored.set('half', { sha256: 'half', bytes: 10, pieces: 1, whole: false, createRevision: 1 });
    await keeper.lead(1);
    expect(keeper.holds('half')).toBe(false);
    await keeper.sweep();
    nowMs += UNUSED_MS;
    await keeper.sweep();
    expect(names()).toEqual([]);
  });

  it('whose removal failed is not relied on, and removed later', async () => {
    await keep('a', 10);
    await keeper.sweep();
    nowMs += UNUSED_MS;
    store.failing = true;
    await keeper.sweep();
    expect(keeper.holds('a')).toBe(false);
    store.failing = false;
    nowMs += UNUSED_MS;
    await keeper.sweep();
    expect(names()).toEqual([]);
  });
});

describe('when there is no room', () => {
  it('the code of the jobs that ended first makes room, as much as is needed', async () => {
    for (const name of ['a', 'b', 'c']) await keep(name, 30);
    inUse = { needed: new Set(['c']), remembered: ['a', 'b'] };
    await keep('d', 30);
    expect(names()).toEqual(['b', 'c', 'd']);
  });

  it('what is needed stays, and the upload is refused with what to do', async () => {
    for (const name of ['a', 'b', 'c']) await keep(name, 30);
    inUse = { needed: new Set(['a', 'b', 'c']), remembered: [] };
    await expect(keep('d', 30)).rejects.toThrow(NoRoomForBundle);
    await expect(keep('d', 30)).rejects.toThrow(/cancel one, or use --shared-folder/);
    expect(names()).toEqual(['a', 'b', 'c']);
  });

  it('no more is written within an hour than etcd can hold until it is compacted', async () => {
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      inUse = { needed: new Set(), remembered: names() };
      await keep(name, 30);
    }
    inUse = { needed: new Set(), remembered: names() };
    await expect(keep('f', 30)).rejects.toThrow(/MiB of code were sent within an hour; wait/);
    await keep('e', 30); // It is there.
    nowMs += 3_600_000;
    await keep('f', 30);
    expect(names()).toContain('f');
  });

  it('what was uploaded a moment ago stays', async () => {
    for (const name of ['a', 'b', 'c']) await keep(name, 30);
    await expect(keep('d', 30)).rejects.toThrow(NoRoomForBundle);
  });
});

it('a coordinator that does not lead stores and removes nothing', async () => {
  await keep('a', 10);
  await keeper.sweep();
  nowMs += UNUSED_MS;
  term = undefined;
  await keeper.sweep();
  await expect(keep('b', 10)).rejects.toThrow(BundleFenced);
  term = 2; // Elected, and what is there not yet listed.
  await expect(keep('b', 10)).rejects.toThrow(BundleFenced);
  expect(names()).toEqual(['a']);
});
