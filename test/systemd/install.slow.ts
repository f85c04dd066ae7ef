/** deploy/install.sh with a root of its own. Needs root. */
import { spawnSync } from 'node:child_process';
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
