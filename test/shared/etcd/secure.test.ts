/** etcd over TLS: who is let in, and what becomes of open connections when certificates change. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Change, connectEtcd, type EtcdClient } from '../../../shared/etcd/client.js';
import { EtcdUnavailable } from '../../../shared/etcd/errors.js';
import { credentialFilesOf } from '../../../shared/identity/credential_files.js';
import { expired, TestAuthority, TestSource } from '../../certificates.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';

let authority: TestAuthority;
let others: TestAuthority;
let etcd: EtcdServer;
const open: EtcdClient[] = [];

beforeAll(async () => {
  authority = await TestAuthority.make();
  others = await TestAuthority.make();
  const folder = await authority.folderFor({ kind: 'etcd', name: 'e1', addresses: ['127.0.0.1'] });
  etcd = await startEtcd({ certificates: credentialFilesOf(folder) });
});
afterAll(async () => {
  for (const one of open) one.close();
  await etcd?.stop();
  authority.remove();
  others.remove();
});

function client(credentials?: TestSource): EtcdClient {
  const made = connectEtcd({ endpoints: [etcd.endpoint], prefix: '/secure/', callTimeoutMs: 1000, credentials });
  open.push(made);
  return made;
}

test('whoever has no certificate of the cluster is not let in', async () => {
  const foreign = new TestSource(await others.credentialsOf('worker', 'w1'));
  const late = new TestSource(await authority.credentialsOf('worker', 'w1', expired()));
  for (const credentials of [undefined, foreign, late]) {
    await expect(client(credentials).get('a')).rejects.toThrow(EtcdUnavailable);
  }
});

test('whoever has any certificate of the cluster is: docs/security.md says to keep people away from its port', async () => {
  const viewer = new TestSource(await authority.credentialsOf('viewer', 'eve'));
  await client(viewer).put('a', '1');
});

test('an etcd with the certificate of somebody else is not believed', async () => {
  const impostor = await startEtcd({ certificates: await authority.filesOf('worker', 'w9') });
  try {
    const credentials = new TestSource(await authority.credentialsOf('worker', 'w1'));
    const made = connectEtcd({ endpoints: [impostor.endpoint], prefix: '/x/', callTimeoutMs: 1000, credentials });
    open.push(made);
    await expect(made.get('a')).rejects.toThrow(/does not match certificate's altnames/);
  } finally {
    await impostor.stop();
  }
});

test('new certificates are for new connections; watches go on, and what follows works without the old ones', async () => {
  const credentials = new TestSource(await authority.credentialsOf('worker', 'w1'));
  const etcd3 = client(credentials);
  await etcd3.put('key', '1');
  const { revision } = await etcd3.get('key');
  const seen: Change[] = [];
  const ends: unknown[] = [];
  const watch = etcd3.watch({
    range: { kind: 'key', key: 'key' },
    startRevision: revision + 1,
    onChanges: (changes) => seen.push(...changes),
    onEnd: (failure) => ends.push(failure),
  });
  await etcd3.put('key', '2');
  await expect.poll(() => seen.length).toBe(1);

  credentials.replace(await authority.credentialsOf('worker', 'w1'));
  await etcd3.put('key', '3');
  await expect.poll(() => seen.length).toBe(2);
  // Past the time in which the old connections are kept for calls.
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await etcd3.put('key', '4');
  await expect.poll(() => seen.length).toBe(3);
  expect(ends).toEqual([]);
  watch.close();

  credentials.replace(await others.credentialsOf('worker', 'w1'));
  await expect(etcd3.get('key')).rejects.toThrow(EtcdUnavailable);
  credentials.replace(await authority.credentialsOf('worker', 'w1'));
  expect((await etcd3.get('key')).entry?.value).toBe('4');
});
