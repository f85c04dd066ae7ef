import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { connectEtcd, type EtcdClient } from '../../../shared/etcd/client.js';
import { EtcdTimedOut } from '../../../shared/etcd/errors.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';

const CALL_MS = 300;
let etcd: EtcdServer;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

/** Takes every connection and says nothing, like a machine that is cut off. */
async function silentMember(): Promise<string> {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function clientOf(endpoints: readonly string[]): EtcdClient {
  const client = connectEtcd({ endpoints, prefix: '/members/', callTimeoutMs: CALL_MS });
  onTestFinished(() => client.close());
  return client;
}

it('a member that does not answer costs one call its time, and no other: the next member is used from then on', async () => {
  const client = clientOf([await silentMember(), etcd.endpoint]);
  await expect(client.put('a', 'lost')).rejects.toBeInstanceOf(EtcdTimedOut);
  const { lease } = await client.grantLease(10);
  for (let number = 0; number < 20; number++) {
    await client.put('a', String(number));
    await client.keepAlive(lease);
  }
  expect((await client.get('a')).entry?.value).toBe('19');
});

it('calls that fail together leave the member once, not each of them', async () => {
  const client = clientOf([await silentMember(), etcd.endpoint]);
  const seen: string[] = [];
  const ended: unknown[] = [];
  // Left twice, it would be the one in use again.
  const calls = [1, 2].map((number) => client.put('b', String(number)).catch(() => 'failed'));
  expect(await Promise.all(calls)).toEqual(['failed', 'failed']);
  const { revision } = await client.get('b');
  const watch = client.watch({
    range: { kind: 'key', key: 'b' },
    startRevision: revision + 1,
    onChanges: (changes) => seen.push(...changes.map((change) => (change.kind === 'put' ? change.entry.value : ''))),
    onEnd: (failure) => ended.push(failure),
  });
  await client.put('b', 'new');
  await expect.poll(() => seen).toEqual(['new']);
  expect(ended).toEqual([]);
  watch.close();
});
