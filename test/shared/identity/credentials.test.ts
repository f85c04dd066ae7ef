import { copyFileSync, cpSync, mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { validForDays } from '../../../shared/certificates/authority.js';
import { checkCredentials } from '../../../shared/identity/check_credentials.js';
import { CredentialError, credentialFilesOf, readCredentials } from '../../../shared/identity/credential_files.js';
import { KeptCredentials } from '../../../shared/identity/kept_credentials.js';
import { openCredentials } from '../../../shared/identity/open_credentials.js';
import { expired, TestAuthority } from '../../certificates.js';

let ours: TestAuthority;
let others: TestAuthority;
beforeAll(async () => {
  ours = await TestAuthority.make();
  others = await TestAuthority.make();
});
afterAll(() => {
  ours.remove();
  others.remove();
});

const w1 = { role: 'worker', name: 'w1' } as const;

it('files that fit together are read, with the identity in them', async () => {
  const credentials = readCredentials(await ours.filesOf('worker', 'w1'), w1);
  expect(credentials.identity).toEqual(w1);
  expect(credentials.expiresMs).toBeGreaterThan(Date.now());
});

it('what cannot be used is refused in one line that names the file', async () => {
  const good = await ours.filesOf('worker', 'w1');
  const second = await ours.filesOf('worker', 'w1');
  const foreign = await others.filesOf('worker', 'w1');
  const garbage = join(ours.folder, 'garbage.pem');
  writeFileSync(garbage, '-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n');
  const refusal = (files: typeof good, expected: { role: 'worker' | 'coordinator'; name: string } = w1) => {
    try {
      readCredentials(files, expected);
    } catch (error) {
      expect(error).toBeInstanceOf(CredentialError);
      return error instanceof Error ? error.message : '';
    }
    return 'taken';
  };
  expect(refusal({ ...good, key: second.key })).toBe(
    `${second.key}: is not the key of the certificate in ${good.certificate}`,
  );
  expect(refusal({ ...good, ca: foreign.ca })).toBe(
    `${good.certificate}: was not made by the authority in ${foreign.ca}`,
  );
  expect(refusal({ ...good, ca: join(ours.folder, 'no.pem') })).toMatch(/no\.pem: cannot be read: ENOENT/);
  expect(refusal({ ...good, ca: garbage })).toBe(`${garbage}: holds a certificate that cannot be read`);
  expect(refusal({ ...good, certificate: good.key })).toBe(`${good.key}: holds no certificate in PEM form`);
  expect(refusal({ ...good, key: good.certificate })).toBe(
    `${good.certificate}: holds no private key that can be read`,
  );
  expect(refusal(good, { role: 'worker', name: 'w2' })).toMatch(/that of worker w1, not of worker w2$/);
  expect(refusal(good, { role: 'coordinator', name: 'w1' })).toMatch(/not of coordinator w1$/);
  expect(refusal(await ours.filesOf('worker', 'w1', expired()))).toMatch(/cert\.pem: has expired \(.* GMT\)$/);
});

it('new files are taken when they are good; bad ones are said once, and the old ones stay', async () => {
  const files = await ours.filesOf('worker', 'w1');
  const log = { info: vi.fn(), warn: vi.fn() };
  const kept = new KeptCredentials({ files, expected: w1, log, lookMs: 10 });
  const changed = vi.fn();
  kept.onChange(changed);
  const first = kept.current;
  const put = (from: string, to: string) => {
    copyFileSync(from, `${to}.new`);
    renameSync(`${to}.new`, to);
  };
  try {
    // Of another worker, and with a key of its own: neither fits.
    const wrong = await ours.filesOf('worker', 'w2');
    put(wrong.certificate, files.certificate);
    await vi.waitFor(() => expect(log.warn).toHaveBeenCalledTimes(1));
    put(wrong.key, files.key);
    await vi.waitFor(() => expect(log.warn).toHaveBeenCalledTimes(2));
    expect(log.warn.mock.lastCall?.[1]).toMatchObject({ reason: expect.stringContaining('not of worker w1') });
    expect(kept.current).toBe(first);
    expect(changed).not.toHaveBeenCalled();

    const next = await ours.filesOf('worker', 'w1', validForDays(20));
    put(next.key, files.key);
    put(next.certificate, files.certificate);
    await vi.waitFor(() => expect(changed).toHaveBeenCalledTimes(1));
    expect(kept.current.certificate).not.toBe(first.certificate);
    expect(changed).toHaveBeenCalledWith(kept.current);
  } finally {
    kept.close();
  }
});

it('a certificate that is about to expire is said when it is read', async () => {
  const files = await ours.filesOf('worker', 'w1', validForDays(3));
  const log = { info: vi.fn(), warn: vi.fn() };
  new KeptCredentials({ files, expected: w1, log }).close();
  expect(log.warn).toHaveBeenCalledWith('the certificate expires soon: renew it', expect.anything());
});

it('relative paths begin where systemd puts credentials, or else beside the configuration', async () => {
  const folder = await ours.folderOf('worker', 'w1');
  const tls = { ca: 'ca.pem', certificate: 'cert.pem', key: 'key.pem' };
  const log = { info: vi.fn(), warn: vi.fn() };
  const place = { configPath: '/etc/lockstep/w1.yaml', credentialsDirectory: folder };
  const open = (other: object) => openCredentials({ tls, name: 'w1' }, 'worker', { ...place, ...other }, log);
  for (const other of [{}, { credentialsDirectory: undefined, configPath: join(folder, 'w1.yaml') }]) {
    const opened = open(other);
    expect(opened?.current.identity).toEqual({ role: 'worker', name: 'w1' });
    opened?.close();
  }
  expect(() => open({ credentialsDirectory: undefined })).toThrow(
    '/etc/lockstep/w1.yaml: tls: /etc/lockstep/ca.pem: cannot be read',
  );
  expect(openCredentials({ tls: undefined, name: 'w1' }, 'worker', place, log)).toBeUndefined();
  expect(credentialFilesOf(folder).key).toBe(join(folder, 'key.pem'));
});

it('what a unit would load is checked before it starts', async () => {
  const folder = mkdtempSync(join(ours.folder, 'etc-'));
  const config = { tls: { ca: 'tls_ca.pem', certificate: 'tls_cert.pem', key: 'tls_key.pem' }, name: 'w1' };
  const place = { configPath: join(folder, 'worker.yaml'), credentialsDirectory: undefined };
  const check = (other: object = {}) => checkCredentials({ ...config, ...other }, 'worker', place);
  expect(check({ tls: undefined })).toBeUndefined();
  expect(check()).toBe(`there is no ${join(folder, 'tls_ca.pem')}`);
  cpSync(await ours.folderOf('worker', 'w1'), join(folder, 'tls/worker'), { recursive: true });
  expect(check()).toBeUndefined();
  expect(() => check({ name: 'w2' })).toThrow(/worker\.yaml: tls: \S+tls\/worker\/cert\.pem: .*not of worker w2$/);
  cpSync(await ours.folderOf('worker', 'w2'), join(folder, 'tls/worker/2'), { recursive: true });
  const second = { ca: 'tls_2_ca.pem', certificate: 'tls_2_cert.pem', key: 'tls_2_key.pem' };
  expect(check({ name: 'w2', tls: second })).toBeUndefined();
  const absolute = { ...config.tls, key: join(folder, 'no.pem') };
  expect(() => check({ tls: absolute })).toThrow(/no\.pem: cannot be read: ENOENT/);
  const started = { ...place, credentialsDirectory: folder };
  expect(() => checkCredentials(config, 'worker', started)).toThrow(/tls_ca\.pem: cannot be read: ENOENT/);
});
