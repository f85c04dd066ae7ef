/** A coordinator that must not start ends with EX_CONFIG, which systemd does not answer with another start, and one line. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAuthority } from '../certificates.js';
import { ensureBuilt, repository } from '../worker/built_threads.js';

let authority: TestAuthority;
let folder = '';
beforeAll(async () => {
  await ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), 'lockstep-start-'));
  authority = await TestAuthority.make();
});
afterAll(() => {
  authority.remove();
  rmSync(folder, { recursive: true });
});

function start(lines: readonly string[], credentialsDirectory?: string) {
  const path = join(folder, 'c1.yaml');
  writeFileSync(path, ['name: c1', 'etcd: {endpoints: ["http://127.0.0.1:1"]}', ...lines].join('\n'));
  const main = join(repository, 'dist/coordinator/main.js');
  const env = { ...process.env, CREDENTIALS_DIRECTORY: credentialsDirectory };
  const { status, stderr } = spawnSync(process.execPath, [main, '--config', path], { env, timeout: 10_000 });
  return { status, stderr: stderr.toString() };
}

it('on an address that others reach, without certificates', () => {
  const { status, stderr } = start(['listen: 0.0.0.0:0']);
  expect(status).toBe(78);
  expect(stderr).toMatch(/^\S+c1\.yaml:3: listen: must be a loopback address .* \(docs\/security\.md\)\n$/);
});

it('with the certificate of another, where systemd has put it', async () => {
  const files = 'tls: {ca: ca.pem, certificate: cert.pem, key: key.pem}';
  const { status, stderr } = start([files], await authority.folderOf('coordinator', 'c2'));
  expect(status).toBe(78);
  expect(stderr).toMatch(/^\S+c1\.yaml: tls: \S+cert\.pem: .* that of coordinator c2, not of coordinator c1\n$/);
  expect(start([files]).stderr).toMatch(/tls: \S+ca\.pem: cannot be read: ENOENT/);
});
