import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { connectEtcd, type EtcdClient } from '../../../shared/etcd/client.js';
import {
  asEtcdFailure,
  EtcdClosed,
  EtcdCompacted,
  type EtcdFailure,
  EtcdLeaseLost,
  EtcdTimedOut,
  EtcdTooLarge,
  EtcdUnavailable,
  EtcdUnexpected,
} from '../../../shared/etcd/errors.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';
import { timed } from '../../timed.js';
import { FaultProxy } from './fault_proxy.js';

let etcd: EtcdServer;
const open: { close(): void }[] = [];

function client(endpoint = etcd.endpoint, prefix = '/client/'): EtcdClient {
  const made = connectEtcd({ endpoints: [endpoint], prefix, callTimeoutMs: 500 });
  open.push(made);
  return made;
}

beforeAll(async () => {
  etcd = await startEtcd();
});

afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

afterAll(() => etcd.stop());

test('a transaction does all of its operations or none', async () => {
  const etcd3 = client();
  const done = await etcd3.transact({
    when: [{ key: 'a', field: 'createRevision', equals: 0 }],
    success: [
      { kind: 'put', key: 'a', value: '1' },
      { kind: 'get', key: 'a' },
      { kind: 'put', key: 'b', value: '2' },
    ],
  });
  expect(done.found).toMatchObject([
    { key: 'a', value: '1', createRevision: done.revision, modRevision: done.revision },
  ]);
  const refused = await etcd3.transact({
    when: [{ key: 'a', field: 'modRevision', equals: done.revision + 1 }],
    success: [{ kind: 'delete', key: 'a' }],
    failure: [
      { kind: 'get', key: 'nothing' },
      { kind: 'get', key: 'b' },
    ],
  });
  expect(refused.succeeded).toBe(false);
  expect(refused.found).toMatchObject([undefined, { value: '2' }]);
  expect((await etcd3.get('a')).entry?.value).toBe('1');
});

test('two prefixes do not see each other', async () => {
  await client(etcd.endpoint, '/one/').put('key', 'one');
  expect((await client(etcd.endpoint, '/two/').get('key')).entry).toBeUndefined();
  expect((await client(etcd.endpoint, '/one').list({ kind: 'prefix', prefix: '' })).entries).toMatchObject([
    { key: '/key', value: 'one' },
  ]);
});

test('entries whose page would be longer than a message may be come in shorter pages', async () => {
  const etcd3 = connectEtcd({ endpoints: [etcd.endpoint], prefix: '/large/', callTimeoutMs: 5000 });
  open.push(etcd3);
  const value = 'x'.repeat(1_200_000);
  const names = Array.from({ length: 57 }, (_, index) => `k${String(index).padStart(3, '0')}`);
  for (const name of names) await etcd3.put(name, value);
  const { entries } = await etcd3.list({ kind: 'prefix', prefix: '' });
  expect(entries.map(({ key }) => key)).toEqual(names);
}, 20_000);

test('a long list is read in pages at one revision, and one that is too long is an error', async () => {
  const etcd3 = client(etcd.endpoint, '/list/');
  const names = Array.from({ length: 300 }, (_, index) => `k${String(index).padStart(3, '0')}`);
  for (const part of [names.slice(0, 100), names.slice(100, 200), names.slice(200)]) {
    await etcd3.transact({ when: [], success: part.map((key) => ({ kind: 'put', key, value: key })) });
  }
  const { entries, revision } = await etcd3.list({ kind: 'prefix', prefix: 'k' });
  expect(entries.map(({ key }) => key)).toEqual(names);
  await etcd3.delete('k250');
  expect((await etcd3.list({ kind: 'prefix', prefix: 'k' }, { revision })).entries).toHaveLength(300);
  expect((await etcd3.list({ kind: 'prefix', prefix: 'k' })).entries).toHaveLength(299);
  await expect(etcd3.list({ kind: 'prefix', prefix: 'k' }, { maxEntries: 200 })).rejects.toThrow(EtcdTooLarge);
});

test('a host that refuses connections is unavailable', async () => {
  const proxy = await FaultProxy.start(etcd.port);
  proxy.cut();
  await expect(client(proxy.endpoint).get('a')).rejects.toThrow(EtcdUnavailable);
  await proxy.stop();
});

test(
  'a host that says nothing times out at the deadline, and the next call takes a new connection',
  timed,
  async () => {
    const proxy = await FaultProxy.start(etcd.port);
    const etcd3 = client(proxy.endpoint);
    await etcd3.put('a', '1');
    // Another client of the same process must not keep the dead connection in use.
    await client(proxy.endpoint).get('a');
    proxy.loseAll();
    const startedMs = performance.now();
    await expect(etcd3.put('a', '2')).rejects.toThrow(EtcdTimedOut);
    expect(performance.now() - startedMs).toBeLessThan(1500);
    proxy.pass();
    await etcd3.put('a', '3');
    await proxy.stop();
  },
);

test('what etcd refuses has a class of its own', async () => {
  const etcd3 = client();
  await expect(etcd3.put('a', 'x'.repeat(2_000_000))).rejects.toThrow(EtcdTooLarge);
  await expect(etcd3.put('a', 'x', '12345')).rejects.toThrow(EtcdLeaseLost);
  await expect(etcd3.keepAlive('12345')).rejects.toThrow(EtcdLeaseLost);
  await expect(etcd3.revokeLease('12345')).resolves.toBeUndefined();
  etcd3.close();
  await expect(etcd3.get('a')).rejects.toThrow(EtcdClosed);
  expect(asEtcdFailure(new Error('odd'), 'test')).toBeInstanceOf(EtcdUnexpected);
});

test('a watch from a compacted revision says so', async () => {
  const etcd3 = client();
  for (const value of ['1', '2', '3']) await etcd3.put('watched', value);
  await etcd.compact();
  const failure = await new Promise<EtcdFailure>((resolve) => {
    const watch = etcd3.watch({
      range: { kind: 'key', key: 'watched' },
      startRevision: 1,
      onChanges: () => {},
      onEnd: resolve,
    });
    open.push(watch);
  });
  expect(failure).toBeInstanceOf(EtcdCompacted);
  await expect(etcd3.list({ kind: 'key', key: 'watched' }, { revision: 1 })).rejects.toThrow(EtcdCompacted);
});

test('a restarted etcd is used again at once, not after an open circuit', timed, async () => {
  const etcd3 = client();
  await etcd3.put('kept', 'yes');
  await etcd.kill();
  for (let attempt = 0; attempt < 5; attempt++) await expect(etcd3.put('kept', 'no')).rejects.toThrow(EtcdUnavailable);
  await etcd.restart();
  const startedMs = performance.now();
  for (;;) {
    try {
      expect((await etcd3.get('kept')).entry?.value).toBe('yes');
      break;
    } catch (error) {
      if (!(error instanceof EtcdUnavailable)) throw error;
    }
  }
  expect(performance.now() - startedMs).toBeLessThan(2000);
});
