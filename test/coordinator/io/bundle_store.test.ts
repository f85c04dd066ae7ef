import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { BundleFenced, BundleStore, type StoredBundle } from '../../../coordinator/io/bundle_store.js';
import { sha256Of } from '../../../shared/bundle/pack.js';
import { EtcdClient } from '../../../shared/etcd/client.js';
import { EtcdOutOfSpace } from '../../../shared/etcd/errors.js';
import { bundleKey, bundlePieceKey, bundlePiecesFolder, bundlesFolder, leaderKey } from '../../../shared/etcd/keys.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';
import { FaultProxy } from '../../shared/etcd/fault_proxy.js';

const archive = randomBytes(1_300_000);
const sha256 = sha256Of(archive);
let etcd: EtcdServer;
let proxy: FaultProxy;
let client: EtcdClient;
let proxied: EtcdClient;
let term = 0;
let prefixes = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
beforeEach(async () => {
  const prefix = `/bundles${prefixes++}/`;
  proxy = await FaultProxy.start(etcd.port);
  client = new EtcdClient({ endpoints: [etcd.endpoint], prefix, callTimeoutMs: 2000 });
  proxied = new EtcdClient({ endpoints: [proxy.endpoint], prefix, callTimeoutMs: 500 });
  term = await newTerm();
});
afterEach(async () => {
  client.close();
  proxied.close();
  await proxy.stop();
});
afterAll(() => etcd.stop());

async function newTerm(): Promise<number> {
  await client.delete(leaderKey);
  return (await client.transact({ when: [], success: [{ kind: 'put', key: leaderKey, value: '{}' }] })).revision;
}

async function keys(prefix: string): Promise<readonly string[]> {
  return (await client.list({ kind: 'prefix', prefix })).entries.map(({ key }) => key);
}

test('an archive comes back as it was stored, in pieces that etcd takes, and is listed as whole', async () => {
  const store = new BundleStore(client);
  const stored = await store.write(term, sha256, archive);
  expect(stored).toMatchObject({ sha256, bytes: 1_300_000, pieces: 3, whole: true });
  expect(await store.list()).toEqual([stored]);
  expect((await store.read(sha256))?.equals(archive)).toBe(true);
});

test('an empty archive is an archive, and one that is not there is none', async () => {
  const store = new BundleStore(client);
  const empty = Buffer.alloc(0);
  await store.write(term, sha256Of(empty), empty);
  expect(await store.read(sha256Of(empty))).toEqual(empty);
  expect(await store.read(sha256)).toBeUndefined();
});

test('stored twice it is there once', async () => {
  const store = new BundleStore(client);
  const first = await store.write(term, sha256, archive);
  expect(await store.write(term, sha256, archive)).toEqual(first);
  expect(await keys(bundlePiecesFolder)).toHaveLength(3);
});

test('what is not whole is never read, and a later leader completes it', async () => {
  const store = new BundleStore(client);
  const value = JSON.stringify({ bytes: archive.length, pieces: 3, whole: false });
  await client.put(bundleKey(sha256), value);
  expect(await store.read(sha256)).toBeUndefined();
  expect(await store.list()).toMatchObject([{ sha256, whole: false }]);
  await store.write(term, sha256, archive);
  expect((await store.read(sha256))?.equals(archive)).toBe(true);
});

test('a piece that has gone makes the archive unreadable, not shorter', async () => {
  const store = new BundleStore(client);
  await store.write(term, sha256, archive);
  await client.delete(bundlePieceKey(sha256, 1));
  expect(await store.read(sha256)).toBeUndefined();
});

test('removed it leaves nothing behind, and a second removal is no error', async () => {
  const store = new BundleStore(client);
  const stored = await store.write(term, sha256, archive);
  await store.remove(term, stored);
  expect([...(await keys(bundlesFolder)), ...(await keys(bundlePiecesFolder))]).toEqual([]);
  await store.remove(term, stored);
});

test('a leader that was deposed stores and removes nothing', async () => {
  const store = new BundleStore(client);
  const stored = await store.write(term, sha256, archive);
  const old = term;
  term = await newTerm();
  const other = Buffer.from('other');
  await expect(store.write(old, sha256Of(other), other)).rejects.toThrow(BundleFenced);
  await expect(store.remove(old, stored)).rejects.toThrow(BundleFenced);
  expect((await store.read(sha256))?.equals(archive)).toBe(true);
  expect(await keys(bundlesFolder)).toEqual([bundleKey(sha256)]);
});

test('a removal that comes late does not touch the archive that was stored since', async () => {
  const store = new BundleStore(client);
  const before: StoredBundle = await store.write(term, sha256, archive);
  await store.remove(term, before);
  await store.write(term, sha256, archive);
  await store.remove(term, before);
  expect((await store.read(sha256))?.equals(archive)).toBe(true);
});

test('answers that are lost do no harm', async () => {
  const store = new BundleStore(proxied);
  await proxied.get('warm up');
  proxy.loseAll();
  const writing = store.write(term, sha256, archive);
  await new Promise((resolve) => setTimeout(resolve, 700));
  proxy.pass();
  expect(await writing).toMatchObject({ whole: true });
  expect((await new BundleStore(client).read(sha256))?.equals(archive)).toBe(true);
});

test('etcd without space is said at once, and what came so far is no archive', async () => {
  const small = await startEtcd({ quotaBytes: 2 * 1024 * 1024 });
  const full = new EtcdClient({ endpoints: [small.endpoint], prefix: '/full/', callTimeoutMs: 2000 });
  try {
    const { revision } = await full.transact({ when: [], success: [{ kind: 'put', key: leaderKey, value: '{}' }] });
    const store = new BundleStore(full);
    const large = randomBytes(8 * 1024 * 1024);
    await expect(store.write(revision, sha256Of(large), large)).rejects.toThrow(EtcdOutOfSpace);
    expect(await store.read(sha256Of(large))).toBeUndefined();
  } finally {
    full.close();
    await small.stop();
  }
});
