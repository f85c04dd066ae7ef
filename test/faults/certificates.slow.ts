/** A cluster with certificates: the same weights as one without, while all certificates are replaced and processes die that need the new ones. */
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, it } from 'vitest';
import { credentialFilesOf, readCredentials } from '../../shared/identity/credential_files.js';
import { contextOptions, SERVER_NAME } from '../../shared/identity/tls_options.js';
import { exampleJob, type Lockstep, runToEnd } from '../system/run_lockstep.js';
import { train } from '../system/train.js';

const STEPS = 120;
const ROTATE_AT = 15;
const job = exampleJob('char_gpt');
const size = { job, workers: 3, steps: STEPS };

/** Serial number of the certificate that whoever connects is shown. */
async function presented(address: string, tlsFolder: string): Promise<string> {
  const options = contextOptions(readCredentials(credentialFilesOf(join(tlsFolder, 'user-admin'))));
  const [host = '', port = ''] = address.split(':');
  const checkServerIdentity = (): undefined => undefined;
  const socket = connect({ host, port: Number(port), ...options, servername: SERVER_NAME, checkServerIdentity });
  try {
    await once(socket, 'secureConnect', { signal: AbortSignal.timeout(5_000) });
    return socket.getPeerCertificate().serialNumber;
  } finally {
    socket.destroy();
  }
}

function serialIn(folder: string): string {
  return new X509Certificate(readFileSync(credentialFilesOf(folder).certificate)).serialNumber;
}

async function rotateAll(lockstep: Lockstep): Promise<void> {
  const { api, etcd, pids } = await lockstep.ready();
  const tls = join(lockstep.folder, 'run/tls');
  await lockstep.step(ROTATE_AT);
  const owned = readdirSync(tls, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(owned).toHaveLength(7);
  for (const { name } of owned) {
    const { end } = await runToEnd(['certs', 'renew', join(tls, name), '--dir', tls, '--days', '30']);
    expect(end.code, end.stderr).toBe(0);
  }
  for (const [address, folder] of [
    [api, 'coordinator-c1'],
    [etcd.replace('https://', ''), 'etcd-local'],
  ] as const) {
    await lockstep.until(`the new certificate at ${address}`, async () =>
      [serialIn(join(tls, folder)), serialIn(join(tls, 'coordinator-c2'))].includes(await presented(address, tls))
        ? true
        : undefined,
    );
  }
  const logs = join(lockstep.folder, 'run/logs');
  await lockstep.until('all daemons to use their new certificates', () =>
    readdirSync(logs).filter((file) =>
      readFileSync(join(logs, file), 'utf8').includes('new certificate files are in use'),
    ).length === 5
      ? true
      : undefined,
  );
  // Who comes back, and whoever talks to him, now has to do it with the new ones.
  process.kill(pids.workers['w1'] ?? 0, 'SIGKILL');
  await lockstep.event(
    'w1 to be back',
    (one) =>
      one.event === 'worker_joined' &&
      one['worker'] === 'w1' &&
      lockstep.events.some(({ event }) => event === 'worker_lost'),
  );
  for (const pid of pids.coordinators) process.kill(pid, 'SIGKILL');
}

it('with certificates, all of them replaced on the way, the weights are those without', async () => {
  const plain = await train(size);
  const options = ['--tls', '--separate-hosts', '--coordinators', '2'];
  const secured = await train({ ...size, options, during: rotateAll });
  expect(secured.finished.weights_digest).toBe(plain.finished.weights_digest);
  expect(secured.fileSha256).toBe(plain.fileSha256);
  expect(secured.left).toEqual([]);
});
