import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { connectEtcd, type EtcdClient } from '../../../shared/etcd/client.js';
import { workerKey, workersFolder } from '../../../shared/etcd/keys.js';
import { type Registration, register } from '../../../shared/etcd/registration.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';

const log = { info: () => {}, warn: () => {} };
let etcd: EtcdServer;
let client: EtcdClient;
const patience = { timeout: 10_000, interval: 20 };

beforeAll(async () => {
  etcd = await startEtcd();
  client = connectEtcd({ endpoints: [etcd.endpoint], prefix: '/registration/', callTimeoutMs: 500 });
});

afterAll(async () => {
  client.close();
  await etcd.stop();
});

function registered(name: string, options: { onLost?: () => void; resyncMs?: number } = {}): Registration {
  return register({
    client,
    key: workerKey(name),
    value: '1',
    ttlSeconds: 2,
    onLost: options.onLost ?? (() => {}),
    resyncMs: options.resyncMs,
    log,
  });
}

async function storedValue(name: string): Promise<string | undefined> {
  return (await client.get(workerKey(name))).entry?.value;
}

test('a registered key outlives its TTL, takes new values and is gone after close', async () => {
  const registration = registered('w1');
  await registration.registered;
  const { entry } = await client.get(workerKey('w1'));
  registration.update('2');
  registration.update('3');
  await vi.waitFor(async () => expect(await storedValue('w1')).toBe('3'), patience);
  await delay(3500);
  expect((await client.get(workerKey('w1'))).entry?.createRevision).toBe(entry?.createRevision);
  await registration.close();
  expect(await storedValue('w1')).toBeUndefined();
});

test('when all leases are revoked at once all keys come back, spread over time', async () => {
  const names = Array.from({ length: 20 }, (_, index) => `many${index}`);
  let lost = 0;
  const registrations = names.map((name) => registered(name, { onLost: () => lost++ }));
  await Promise.all(registrations.map((registration) => registration.registered));
  const before = await client.list({ kind: 'prefix', prefix: workersFolder });
  await Promise.all(before.entries.map(({ lease }) => client.revokeLease(lease)));
  expect((await client.list({ kind: 'prefix', prefix: workersFolder })).entries).toHaveLength(0);
  const returns: number[] = [];
  const watch = client.watch({
    range: { kind: 'prefix', prefix: workersFolder },
    startRevision: before.revision + 1,
    onChanges: (changes) => returns.push(...changes.filter(({ kind }) => kind === 'put').map(() => performance.now())),
    onEnd: () => {},
  });
  await vi.waitFor(() => expect(returns).toHaveLength(20), patience);
  expect(lost).toBe(20);
  expect(Math.max(...returns) - Math.min(...returns)).toBeGreaterThan(200);
  watch.close();
  await Promise.all(registrations.map((registration) => registration.close()));
});

test('a key that somebody deleted or overwrote is put again', async () => {
  const registration = registered('w2', { resyncMs: 100 });
  await registration.registered;
  await client.delete(workerKey('w2'));
  await vi.waitFor(async () => expect(await storedValue('w2')).toBe('1'), patience);
  await client.put(workerKey('w2'), 'not mine');
  await vi.waitFor(async () => expect(await storedValue('w2')).toBe('1'), patience);
  await registration.close();
});

test('without etcd it neither fails nor hangs at close, and registers as soon as etcd is there', async () => {
  await etcd.kill();
  const early = registered('w3');
  const neverThere = registered('w4');
  await delay(300);
  const startedMs = performance.now();
  await neverThere.close();
  expect(performance.now() - startedMs).toBeLessThan(2000);
  await etcd.restart();
  await early.registered;
  expect(await storedValue('w3')).toBe('1');
  await early.close();
});
