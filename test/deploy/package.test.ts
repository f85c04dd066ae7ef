/** The package as it is built, and the units in it as systemd reads them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { sha256Of } from '../../shared/bundle/pack.js';
import { repository } from '../system/run_lockstep.js';
import { buildPackage } from '../systemd/installed.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-package-'));
const root = join(folder, 'root');
const UNITS = ['lockstep-coordinator', 'lockstep-worker', 'lockstep-worker@2', 'lockstep-etcd'];
/** systemd-analyze counts in tenths. */
const MOST_EXPOSED = '20';
let deb = '';

beforeAll(() => {
  deb = buildPackage(join(folder, 'first'));
  execFileSync('dpkg-deb', ['-x', deb, root]);
  // etcd is another package, and these are systemd's own.
  writeFileSync(join(root, 'usr/bin/etcd'), '', { mode: 0o755 });
  for (const target of ['sysinit', 'basic', 'shutdown', 'multi-user', 'network-online']) {
    cpSync(`/lib/systemd/system/${target}.target`, join(root, `lib/systemd/system/${target}.target`));
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

function run(program: string, args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(program, [...args], { encoding: 'utf8' });
  return { status, text: `${stdout}${stderr}` };
}

it('two builds of the same are the same, byte for byte', () => {
  const again = buildPackage(join(folder, 'second'));
  expect(sha256Of(readFileSync(again))).toBe(sha256Of(readFileSync(deb)));
});

it.each(UNITS)('systemd finds nothing wrong with %s', (unit) => {
  expect(run('systemd-analyze', ['verify', '--man=no', `--root=${root}`, `${unit}.service`])).toEqual({
    status: 0,
    text: '',
  });
});

it('systemd would find what is wrong', () => {
  const unit = join(root, 'lib/systemd/system/lockstep-worker.service');
  const right = readFileSync(unit, 'utf8');
  writeFileSync(unit, right.replace('RestartSec=', 'RestartSecc='));
  const { text } = run('systemd-analyze', ['verify', '--man=no', `--root=${root}`, 'lockstep-worker.service']);
  writeFileSync(unit, right);
  expect(text).toContain("Unknown key 'RestartSecc'");
});

it.each(UNITS)('%s is exposed to at most 2.0', (unit) => {
  const args = ['security', '--offline=true', `--threshold=${MOST_EXPOSED}`, `--root=${root}`, `${unit}.service`];
  const { status, text } = run('systemd-analyze', args);
  expect(text).toMatch(/Overall exposure level for .* [0-2]\.\d/);
  expect(status).toBe(0);
});

it.each(['coordinator', 'worker'])(
  'the configuration of a %s as installed is right, and a wrong one is refused',
  (daemon) => {
    const program = join(root, `usr/sbin/lockstep-${daemon}`);
    const path = join(root, `etc/lockstep/${daemon}.yaml`);
    expect(run(program, ['--check-config', '--config', path])).toEqual({ status: 0, text: `${path}: ok\n` });
    const secured = join(folder, 'secured.yaml');
    writeFileSync(secured, readFileSync(path, 'utf8').replace('#tls:', 'tls:').replace('http:', 'https:'));
    expect(run(program, ['--check-config', '--config', secured])).toEqual({
      status: 0,
      text: `${secured}: ok; certificates not checked: there is no ${join(folder, 'tls_ca.pem')}\n`,
    });
    const wrong = join(folder, `${daemon}.yaml`);
    writeFileSync(wrong, readFileSync(path, 'utf8').replace('listen:', 'lisen:'));
    const refused = run(program, ['--check-config', '--config', wrong]);
    expect(refused.status).toBe(78);
    expect(refused.text).toMatch(/: lisen: is not a known key; did you mean listen\?\n$/);
    expect(refused.text.trim().split('\n')).toHaveLength(1);
  },
);

it('a command line that is wrong is refused as a configuration is', () => {
  const { status, text } = run(join(root, 'usr/sbin/lockstep-worker'), ['--conf', 'x']);
  expect(status).toBe(78);
  expect(text).toContain('usage: lockstep-worker [--check-config] [--config FILE]');
});

it('the package holds what runs, and nothing of what builds and tests', () => {
  const control = run('dpkg-deb', ['-f', deb]).text;
  expect(control).toMatch(/^Depends: nodejs \(>= 20\.15\), python3, openssl, libsystemd0, libxxhash0$/m);
  expect(control).toMatch(/^Recommends: python3-torch, libopenblas0-pthread$/m);
  const listed = run('dpkg-deb', ['-c', deb]).text.trim().split('\n');
  for (const line of listed) expect(line).toMatch(/^\S+ root\/root /);
  const paths = listed.map((line) => line.split(/\s+/)[5] ?? '');
  const lib = paths.filter((path) => path.startsWith('./usr/lib/lockstep/'));
  expect(lib).toEqual(
    expect.arrayContaining(
      [
        'dist/worker/main.js',
        'dist/dashboard/index.html',
        'engine/lockstep/server.py',
        'engine/preflight.py',
        'proto/jobs.proto',
      ].map((path) => `./usr/lib/lockstep/${path}`),
    ),
  );
  expect(lib.filter((path) => /\/(typescript|vitest|esbuild|@types|__pycache__)\/|\.(ts|map|pyc)$/.test(path))).toEqual(
    [],
  );
  expect(lib.filter((path) => /lockstep\/(dist\/)?(test|bench|deploy)\//.test(path))).toEqual([]);
  expect(run('dpkg-deb', ['--info', deb, 'conffiles']).text.trim().split('\n')).toEqual(
    ['coordinator', 'etcd', 'worker'].map((name) => `/etc/lockstep/${name}.yaml`),
  );
  for (const name of readdirSync(join(root, 'etc/lockstep/tls'))) {
    expect(statSync(join(root, 'etc/lockstep/tls', name)).mode & 0o777).toBe(0o700);
  }
});

it.each([
  [[], /usage: deploy\/install\.sh/],
  [['worker', '--etcd'], /--etcd goes with coordinator/],
  [['coordinator', '--package'], /--package needs a value/],
  [['upgrade', '--package', '/no/such.deb'], /there is no \/no\/such\.deb/],
  [['worker', '--root', '/no/such'], /there is no folder \/no\/such/],
])('install.sh %j is refused in one line', (args, expected) => {
  const { status, text } = run(join(repository, 'deploy/install.sh'), args);
  expect(status).toBe(2);
  expect(text).toMatch(expected);
  expect(text.trim().split('\n')).toHaveLength(1);
});

it('a package is looked for where whoever calls install.sh is', () => {
  const args = ['worker', '--package', relative(folder, deb), '--root', '/no/such'];
  const { stderr } = spawnSync(join(repository, 'deploy/install.sh'), args, { encoding: 'utf8', cwd: folder });
  expect(stderr).toBe('install: there is no folder /no/such\n');
});
