/** deploy/install.sh with a root of its own. Needs root. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { repository } from '../system/run_lockstep.js';
import { buildPackage } from './installed.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-install-'));
const other = join(folder, 'other');
let deb = '';

beforeAll(() => {
  mkdirSync(other);
  deb = buildPackage(folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Its exit status. */
function install(...args: readonly string[]): number | null {
  return spawnSync(join(repository, 'deploy/install.sh'), [...args, '--root', other], { stdio: 'ignore' }).status;
}

it('can be installed into another root, upgraded there, and taken out of it', () => {
  expect(install('worker', '--package', deb)).toBe(0);
  expect(readFileSync(join(other, 'etc/passwd'), 'utf8')).toMatch(/^lockstep-worker:.*\nlockstep-engine:/m);
  expect(statSync(join(other, 'usr/lib/lockstep/dist/worker/main.js')).isFile()).toBe(true);
  const own = join(other, 'etc/lockstep/worker.yaml');
  writeFileSync(own, 'name: mine\n');
  expect(install('upgrade', '--package', deb)).toBe(0);
  expect(readFileSync(own, 'utf8')).toBe('name: mine\n');
  expect(install('uninstall')).toBe(0);
  expect(existsSync(join(other, 'usr/lib/lockstep'))).toBe(false);
  expect(existsSync(own)).toBe(true);
  expect(install('uninstall', '--purge')).toBe(0);
  expect(existsSync(join(other, 'etc/lockstep'))).toBe(false);
});

/** apt-get, as far as it hands a package and options on to dpkg, into another root. */
const APT_GET = `#!/bin/bash
for word; do
  case "$word" in
  Dpkg::Options::=*) options+=("\${word#*=}") ;;
  *.deb) package=$word ;;
  esac
done
exec dpkg --root="$OTHER_ROOT" --force-depends --force-script-chrootless --log=/dev/null "\${options[@]}" --install "$package"
`;

it('an upgrade leaves a configuration alone that was changed on both sides, and asks nobody', () => {
  expect(install('worker', '--package', deb)).toBe(0);
  const own = join(other, 'etc/lockstep/worker.yaml');
  writeFileSync(own, 'name: mine\n');
  const next = join(folder, 'next');
  execFileSync('dpkg-deb', ['--raw-extract', deb, next]);
  const control = join(next, 'DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, 'Version: 99.0.0'));
  writeFileSync(join(next, 'etc/lockstep/worker.yaml'), 'name: another\n');
  execFileSync('dpkg-deb', ['--root-owner-group', '--build', next, `${next}.deb`], { stdio: 'ignore' });
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'bin/apt-get'), APT_GET, { mode: 0o755 });
  const env = { ...process.env, OTHER_ROOT: other, PATH: `${join(folder, 'bin')}:${process.env['PATH']}` };
  const args = ['upgrade', '--package', `${next}.deb`];
  const { status, stderr } = spawnSync(join(repository, 'deploy/install.sh'), args, {
    env,
    encoding: 'utf8',
    input: '',
  });
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(readFileSync(own, 'utf8')).toBe('name: mine\n');
  expect(readFileSync(`${own}.dpkg-dist`, 'utf8')).toBe('name: another\n');
});
