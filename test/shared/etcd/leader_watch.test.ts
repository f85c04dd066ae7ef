import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { connectEtcd, EtcdClient, type WatchOptions } from '../../../shared/etcd/client.js';
import { leaderKey, workerKey, workersFolder } from '../../../shared/etcd/keys.js';
import { type Leader, readLeader, watchLeader } from '../../../shared/etcd/leader_watch.js';
import { type Members, readMembers, watchMembers } from '../../../shared/etcd/member_watch.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';
import { FaultProxy } from './fault_proxy.js';

const warnings: string[] = [];
const log = { info: () => {}, warn: (message: string) => void warnings.push(message) };
const patience = { timeout: 10_000, interval: 10 };
let etcd: EtcdServer;
let proxy: FaultProxy;
/** Goes to etcd directly, and does what other processes do. */
let other: EtcdClient;
/** Goes through the proxy. */
let client: EtcdClient;
let seen: (Leader | undefined)[] = [];
const watches: { close(): void }[] = [];

beforeAll(async () => {
  etcd = await startEtcd();
  other = connectEtcd({ endpoints: [etcd.endpoint], prefix: '/watch/', callTimeoutMs: 2000 });
});

beforeEach(async () => {
  await other.delete(leaderKey);
  proxy = await FaultProxy.start(etcd.port);
  client = connectEtcd({ endpoints: [proxy.endpoint], prefix: '/watch/', callTimeoutMs: 300 });
  seen = [];
  warnings.length = 0;
});

afterEach(async () => {
  for (const watch of watches.splice(0)) watch.close();
  client.close();
  await proxy.stop();
});

afterAll(async () => {
  other.close();
  await etcd.stop();
});

function follow(options: { client?: EtcdClient; resyncMs?: number } = {}): void {
  const onLeader = (leader: Leader | undefined) => void seen.push(leader);
  watches.push(watchLeader({ client: options.client ?? client, onLeader, log, resyncMs: options.resyncMs }));
}

/** Makes a leader of a new term. */
async function lead(name: string): Promise<void> {
  await other.delete(leaderKey);
  await other.put(leaderKey, JSON.stringify({ name, address: `${name}:1`, operation: 'o' }));
}

const lastSeen = () => seen.at(-1)?.name;

test('every change of the leader is seen, with a term that grows', async () => {
  follow();
  await vi.waitFor(() => expect(seen).toEqual([undefined]), patience);
  await lead('a');
  await vi.waitFor(() => expect(lastSeen()).toBe('a'), patience);
  await lead('b');
  await vi.waitFor(() => expect(lastSeen()).toBe('b'), patience);
  expect(await readLeader(client)).toEqual(seen.at(-1));
  const terms = seen.flatMap((leader) => leader?.term ?? []);
  expect(terms).toEqual([...terms].sort((a, b) => a - b));
  await other.delete(leaderKey);
  await vi.waitFor(() => expect(seen.at(-1)).toBeUndefined(), patience);
});

test('a leader key that holds rubbish is no leader and no crash', async () => {
  await other.put(leaderKey, '{"name":');
  follow();
  await vi.waitFor(() => expect(seen).toEqual([undefined]), patience);
  expect(await readLeader(client)).toBeUndefined();
  expect(warnings).not.toHaveLength(0);
});

test('a compacted watch lists again and misses nothing', async () => {
  class Late extends EtcdClient {
    attempts = 0;
    override watch(options: WatchOptions): { close(): void } {
      this.attempts += 1;
      return super.watch(this.attempts === 1 ? { ...options, startRevision: 1 } : options);
    }
  }
  await lead('a');
  await etcd.compact();
  const late = new Late({ endpoints: [etcd.endpoint], prefix: '/watch/', callTimeoutMs: 500 });
  follow({ client: late });
  await vi.waitFor(() => expect(warnings).toContain('watch of leader failed, trying again'), patience);
  await lead('b');
  await vi.waitFor(() => expect(lastSeen()).toBe('b'), patience);
  late.close();
});

test('a watch that has silently stopped is found by the resync', async () => {
  await lead('a');
  follow({ resyncMs: 500 });
  await vi.waitFor(() => expect(lastSeen()).toBe('a'), patience);
  proxy.loseReplies();
  proxy.pass();
  await lead('b');
  // Sooner than the keepalive of the connection would find it.
  await vi.waitFor(() => expect(lastSeen()).toBe('b'), { ...patience, timeout: 3000 });
});

test('a watch follows etcd through a restart and a broken connection', async () => {
  await lead('a');
  follow();
  await vi.waitFor(() => expect(lastSeen()).toBe('a'), patience);
  await etcd.restart();
  await vi.waitFor(() => lead('b'), patience);
  await vi.waitFor(() => expect(lastSeen()).toBe('b'), patience);
  proxy.cut();
  await lead('c');
  proxy.pass();
  await vi.waitFor(() => expect(lastSeen()).toBe('c'), patience);
});

test('a closed watch says nothing more', async () => {
  follow();
  await vi.waitFor(() => expect(seen).toHaveLength(1), patience);
  for (const watch of watches) watch.close();
  // On a busy machine the first listing may have taken too long, and said so.
  const warned = warnings.length;
  await lead('a');
  await delay(200);
  expect(seen).toHaveLength(1);
  expect(warnings).toHaveLength(warned);
});

test('a watch that is closed by whoever it tells says nothing more either', async () => {
  const watch = watchLeader({
    client,
    onLeader: (leader) => {
      seen.push(leader);
      watch.close();
    },
    log,
  });
  await vi.waitFor(() => expect(seen).toHaveLength(1), patience);
  await lead('a');
  await delay(200);
  expect(seen).toEqual([undefined]);
});

test('members are a map of names to values, without those that are not JSON', async () => {
  const changes: Members[] = [];
  watches.push(watchMembers({ client, folder: workersFolder, onMembers: (members) => changes.push(members), log }));
  await other.put(workerKey('w1'), '{"host":"a"}');
  await other.put(workerKey('w2'), 'rubbish');
  await other.put(workerKey('w3'), '{"host":"c"}');
  const expected = new Map([
    ['w1', { host: 'a' }],
    ['w3', { host: 'c' }],
  ]);
  await vi.waitFor(() => expect(changes.at(-1)).toEqual(expected), patience);
  expect(await readMembers(client, workersFolder)).toEqual(expected);
  await other.delete(workerKey('w1'));
  await vi.waitFor(() => expect([...(changes.at(-1)?.keys() ?? [])]).toEqual(['w3']), patience);
});
