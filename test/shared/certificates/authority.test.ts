import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createAuthority, createKey, DAY_MS, issue, validForDays } from '../../../shared/certificates/authority.js';
import { readAuthority, writeAuthority } from '../../../shared/certificates/folder.js';
import { makeCertificate } from '../../../shared/certificates/make.js';
import { TestAuthority } from '../../certificates.js';

let authority: TestAuthority;
beforeAll(async () => {
  authority = await TestAuthority.make();
});
afterAll(() => authority.remove());

const w1 = { kind: 'identity', identity: { role: 'worker', name: 'w1' } } as const;

/** A request that openssl makes of what it is told. */
function requestWith(key: readonly string[], extra: readonly string[] = []): string {
  const file = join(authority.folder, `request-${Math.random()}`);
  execFileSync('openssl', ['req', '-new', '-nodes', ...key, '-keyout', `${file}.key`, '-out', file, ...extra], {
    stdio: 'pipe',
  });
  return readFileSync(file, 'utf8');
}

it('keys are for their owner only', async () => {
  const folder = await authority.folderOf('worker', 'w1');
  const mode = (path: string) => statSync(path).mode & 0o777;
  expect(mode(join(authority.folder, 'ca.key'))).toBe(0o600);
  expect(mode(join(folder, 'key.pem'))).toBe(0o600);
  expect(mode(folder)).toBe(0o700);
});

it('of a request nothing but the key is believed', async () => {
  const request = requestWith(
    ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    [
      '-subj',
      '/CN=admin:eve',
      '-addext',
      'subjectAltName=URI:lockstep://admin/eve',
      '-addext',
      'basicConstraints=CA:TRUE',
    ],
  );
  const made = new X509Certificate(await issue(readAuthority(authority.folder), request, w1, validForDays(1)));
  expect(made.subjectAltName).toBe('URI:lockstep://worker/w1');
  expect(made.subject).toBe('CN=worker:w1');
  expect(made.ca).toBe(false);
});

it('a key of another kind gets no certificate', async () => {
  const rsa = requestWith(['-newkey', 'rsa:2048'], ['-subj', '/CN=x']);
  await expect(issue(readAuthority(authority.folder), rsa, w1, validForDays(1))).rejects.toThrow(/than EC P-256/);
  await expect(issue(readAuthority(authority.folder), 'nonsense', w1, validForDays(1))).rejects.toThrow(
    /^openssl ca failed: /,
  );
});

it('no certificate outlives its authority, and all are valid a little before they were made', async () => {
  const young = await createAuthority(validForDays(2));
  const { request } = await createKey();
  const made = new X509Certificate(await issue(young, request, w1, validForDays(100)));
  expect(made.validTo).toBe(new X509Certificate(young.certificate).validTo);
  expect(Date.now() - Date.parse(made.validFrom)).toBeGreaterThan(DAY_MS / 48);
});

it('what is there already is not written over', async () => {
  const folder = await authority.folderOf('worker', 'w1');
  await expect(makeCertificate(authority.folder, folder, w1, validForDays(1))).rejects.toThrow(/is there already/);
  const again = await createAuthority(validForDays(1));
  expect(() => writeAuthority(authority.folder, again)).toThrow(/ca\.key is there already/);
  writeFileSync(join(folder, 'x'), '');
  expect(() => readAuthority(folder)).toThrow(/ca\.key cannot be read; .*certs init/);
});
