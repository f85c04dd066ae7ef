/** What --check-config and a start say of tls.ca_key. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { authorityKeyProblem, checkAuthorityKey } from '../../../coordinator/io/authority_key.js';
import { TestAuthority } from '../../certificates.js';
import { ensureBuilt, repository } from '../../worker/built_threads.js';

let authority: TestAuthority;
let others: TestAuthority;
let folder = '';
beforeAll(async () => {
  await ensureBuilt();
  authority = await TestAuthority.make();
  others = await TestAuthority.make();
});
afterAll(() => {
  authority.remove();
  others.remove();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-ca-key-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const place = () => ({ configPath: join(folder, 'c1.yaml'), credentialsDirectory: undefined });
const files = { ca: 'ca.pem', certificate: 'cert.pem', key: 'key.pem', caKey: 'ca.key' };

function keyOf(owner: TestAuthority): string {
  const path = join(folder, 'ca.key');
  copyFileSync(join(owner.folder, 'ca.key'), path);
  return path;
}

it('the right key, which nobody else can read, is right', () => {
  writeFileSync(join(folder, 'ca.pem'), authority.ca);
  keyOf(authority);
  expect(checkAuthorityKey(files, place())).toBeUndefined();
  expect(checkAuthorityKey(undefined, place())).toBeUndefined();
  expect(checkAuthorityKey({ ...files, caKey: undefined }, place())).toBeUndefined();
});

it.each([
  ['is that of another authority', () => keyOf(others), 'is not the key of the first certificate in tls.ca'],
  [
    'can be read by everybody',
    () => chmodSync(keyOf(authority), 0o644),
    'may be read or written by everybody: chmod 600',
  ],
  ['can be written by everybody', () => chmodSync(keyOf(authority), 0o602), 'may be read or written by everybody'],
  ['is no key', () => writeFileSync(join(folder, 'ca.key'), 'x', { mode: 0o600 }), 'cannot be read: '],
])('a key that %s is refused in one line', (_what, make, problem) => {
  writeFileSync(join(folder, 'ca.pem'), authority.ca);
  make();
  expect(() => checkAuthorityKey(files, place())).toThrow(`c1.yaml: tls.ca_key: ${join(folder, 'ca.key')}: ${problem}`);
});

it('a key that the unit is to load is not looked at, and one at an absolute path has to be there', () => {
  writeFileSync(join(folder, 'ca.pem'), authority.ca);
  const missing = join(folder, 'ca.key');
  expect(checkAuthorityKey(files, place())).toBe(`there is no ${missing}`);
  expect(() => checkAuthorityKey({ ...files, caKey: missing }, place())).toThrow(/ca_key: \S+ cannot be read: ENOENT/);
  expect(authorityKeyProblem(authority.ca, missing)).toMatch(/^cannot be read: ENOENT/);
});

it('--check-config says so with the status of a bad configuration', async () => {
  const own = await authority.folderOf('coordinator', 'c1');
  const path = join(folder, 'c1.yaml');
  const tls = `{ca: ${own}/ca.pem, certificate: ${own}/cert.pem, key: ${own}/key.pem, ca_key: ${keyOf(others)}}`;
  writeFileSync(path, `name: c1\netcd: {endpoints: ["https://127.0.0.1:1"]}\njoin_listen: 127.0.0.1:0\ntls: ${tls}\n`);
  const check = () => {
    const main = join(repository, 'dist/coordinator/main.js');
    const { status, stdout, stderr } = spawnSync('node', [main, '--check-config', '--config', path], {
      timeout: 10_000,
    });
    return { status, text: `${stdout}${stderr}` };
  };
  const problem = `${path}: tls.ca_key: ${folder}/ca.key: is not the key of the first certificate in tls.ca\n`;
  expect(check()).toEqual({ status: 78, text: problem });
  keyOf(authority);
  expect(check()).toEqual({ status: 0, text: `${path}: ok\n` });
});
