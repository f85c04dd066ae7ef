import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { runProgram } from '../../cli/program.js';
import { credentialFilesOf, readCredentials } from '../../shared/identity/credential_files.js';
import { expired, TestAuthority } from '../certificates.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-certs-'));
const dir = join(folder, 'authority');
afterAll(() => rmSync(folder, { recursive: true }));

async function ask(...args: readonly string[]) {
  const errors: string[] = [];
  let out = '';
  const context = {
    stdout: process.stdout,
    write: (text: string) => {
      out += text;
    },
    signal: new AbortController().signal,
    onKill: () => {},
    environment: {},
    user: undefined,
    defaultServer: undefined,
    tlsFolder: undefined,
    python: 'python3',
    repository: folder,
  };
  const code = await runProgram(context, args, (line) => errors.push(line));
  return { code, out, errors };
}

const fact = z.looseObject({
  role: z.string(),
  name: z.string(),
  addresses: z.string().array(),
  days_left: z.number(),
});
async function factsOf(path: string) {
  const { code, out } = await ask('certs', 'show', path, '--json');
  return { code, ...fact.parse(JSON.parse(out)) };
}

beforeAll(async () => {
  expect(await ask('certs', 'init', dir)).toMatchObject({ code: 0, errors: [] });
});

describe('lockstep certs', () => {
  it.each([
    [['worker', 'w1'], 'worker-w1', { role: 'worker', name: 'w1' }],
    [
      ['coordinator', 'c1', '--address', 'c1.example', '--address', '10.0.0.1'],
      'coordinator-c1',
      { role: 'coordinator', name: 'c1', addresses: ['c1.example', '10.0.0.1'] },
    ],
    [['user', 'anna', '--role', 'viewer', '--days', '7'], 'user-anna', { role: 'viewer', name: 'anna', days_left: 6 }],
    [
      ['etcd', 'e1', '--address', '127.0.0.1', '--address', '::1'],
      'etcd-e1',
      { role: 'etcd', name: 'e1', addresses: ['127.0.0.1', '0:0:0:0:0:0:0:1'] },
    ],
  ])('%j makes a folder that can be carried to its machine', async (args, made, facts) => {
    const { code, out } = await ask('certs', ...args, '--dir', dir);
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^${join(dir, made)}  until 20`));
    expect(await factsOf(join(dir, made, 'cert.pem'))).toMatchObject({ code: 0, ...facts });
    expect(statSync(join(dir, made, 'key.pem')).mode & 0o777).toBe(0o600);
  });

  it('renew replaces the certificate and keeps the key, the name and the addresses', async () => {
    const made = join(dir, 'coordinator-c1');
    const files = credentialFilesOf(made);
    const read = () => [files.key, files.certificate].map((file) => readFileSync(file, 'utf8'));
    const [key, certificate] = read();
    expect(await ask('certs', 'renew', made, '--dir', dir, '--days', '30')).toMatchObject({ code: 0 });
    const [sameKey, next] = read();
    expect(sameKey).toBe(key);
    expect(next).not.toBe(certificate);
    expect(await factsOf(files.certificate)).toMatchObject({
      role: 'coordinator',
      name: 'c1',
      addresses: ['c1.example', '10.0.0.1'],
      days_left: 29,
    });
    readCredentials(files, { role: 'coordinator', name: 'c1' });
    expect(existsSync(`${files.certificate}.new`)).toBe(false);
  });

  it('show ends with 1 when one is not valid, and shows the authority', async () => {
    const authority = await TestAuthority.make();
    try {
      const { certificate } = await authority.filesOf('worker', 'w1', expired());
      expect(await ask('certs', 'show', join(dir, 'ca.pem'), certificate)).toMatchObject({ code: 1 });
      expect(await factsOf(join(dir, 'ca.pem'))).toMatchObject({ code: 0, role: 'authority' });
    } finally {
      authority.remove();
    }
  });

  it.each([
    ['a name that is none', ['worker', '../w1'], /a name must be 1 to 63/],
    ['a role that is none', ['user', 'x', '--role', 'root'], /Allowed choices are viewer, submitter, admin/],
    ['no role', ['user', 'x'], /required option '--role <role>'/],
    ['etcd without an address', ['etcd', 'e2'], /--address: name the addresses/],
    ['an address that is none', ['etcd', 'e2', '--address', 'a,URI:x'], /must be a host name or an IP address/],
    ['a certificate that is there', ['worker', 'w1'], /key\.pem is there already/],
    ['days that are none', ['worker', 'w3', '--days', '0'], /whole number from 1/],
    ['what is no certificate', ['show', 'package.json'], /package\.json: holds no certificate/],
    ['a file that is not there', ['show', 'no.pem'], /no\.pem: ENOENT/],
    ['a time that is none', ['token', 'w1', '--expires', '5'], /must be a time such as 90s/],
  ])('refuses %s in one line, with exit code 2', async (_, args, message) => {
    const needsFolder = ['worker', 'user', 'etcd'].includes(args[0] ?? '');
    const { code, errors } = await ask('certs', ...args, ...(needsFolder ? ['--dir', dir] : []));
    expect(code).toBe(2);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(message);
    expect(errors[0]).not.toContain('\n');
  });

  it('refuses a folder without an authority, and a second authority in one', async () => {
    expect(await ask('certs', 'worker', 'w1', '--dir', join(folder, 'none'))).toMatchObject({
      code: 2,
      errors: [expect.stringMatching(/none\/ca\.pem cannot be read; .*certs init/)],
    });
    expect(await ask('certs', 'init', dir)).toMatchObject({
      code: 2,
      errors: [expect.stringMatching(/is there already/)],
    });
  });

  it('says what to do where there is no openssl', async () => {
    const path = process.env['PATH'];
    process.env['PATH'] = folder;
    try {
      expect(await ask('certs', 'worker', 'w9', '--dir', dir)).toMatchObject({
        code: 2,
        errors: ['openssl genpkey failed: it is not installed; run: apt-get install openssl'],
      });
    } finally {
      process.env['PATH'] = path;
    }
  });
});

describe('a command with certificates', () => {
  it('that have expired or are not there ends with 5 before it asks anybody', async () => {
    const authority = await TestAuthority.make();
    try {
      const late = await authority.folderOf('admin', 'anna', expired());
      const asking = (tls: string) => ask('jobs', '--server', '127.0.0.1:1', '--tls-dir', tls);
      expect(await asking(late)).toMatchObject({ code: 5, errors: [expect.stringMatching(/cert\.pem: has expired/)] });
      expect(await asking(join(folder, 'none'))).toMatchObject({
        code: 5,
        errors: [expect.stringMatching(/ca\.pem: cannot be read/)],
      });
    } finally {
      authority.remove();
    }
  });
});
