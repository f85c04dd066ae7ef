/** deploy/setup.sh in a folder of its own, among programs that only say what it asks them. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { sha256Of } from '../../shared/bundle/pack.js';
import { repository } from '../system/run_lockstep.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-setup-'));
  for (const name of ['deploy', 'dist', 'node_modules', 'bin', 'venv']) mkdirSync(join(folder, name));
  cpSync(join(repository, 'deploy/setup.sh'), join(folder, 'deploy/setup.sh'));
  writeFileSync(join(folder, 'package-lock.json'), '{}');
  // As sha256sum says it.
  writeFileSync(join(folder, 'node_modules/.lockstep-lock'), `${sha256Of(Buffer.from('{}'))}  -\n`);
  writeFileSync(join(folder, 'dist/.built'), '');
  program('bin/npm', 'exit 1');
  program('bin/dpkg-query', 'echo "ii "');
  program('venv/python', 'exit 0');
});
afterEach(() => rmSync(folder, { recursive: true }));

function program(name: string, script: string): void {
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

function setUp(environment: Readonly<Record<string, string>> = {}) {
  const path = `${join(folder, 'bin')}:${process.env['PATH']}`;
  const env = { ...process.env, LOCKSTEP_PYTHON: join(folder, 'venv/python'), ...environment, PATH: path };
  const { status, stderr } = spawnSync(join(folder, 'deploy/setup.sh'), [], { env, encoding: 'utf8' });
  return { status, stderr };
}

it.each(['v20.15.0', 'v20.100.1', 'v22.3.0', 'v100.0.0'])('takes Node.js %s', (version) => {
  program('bin/node', `echo ${version}`);
  expect(setUp()).toEqual({ status: 0, stderr: '' });
});

it.each(['v18.19.0', 'v20.14.9', 'v9.0.0'])('refuses Node.js %s in one line, before anything is done', (version) => {
  program('bin/node', `echo ${version}`);
  const { status, stderr } = setUp();
  expect(status).toBe(2);
  expect(stderr).toBe(
    `setup: Node.js 20.15.0 or later is needed, and ${join(folder, 'bin/node')} is ${version.slice(1)}\n`,
  );
});

it('remembers an interpreter that was named by a relative path by one that holds in every folder', () => {
  program('bin/node', 'echo v20.15.0');
  expect(setUp({ LOCKSTEP_PYTHON: 'venv/python' })).toEqual({ status: 0, stderr: '' });
  expect(readFileSync(join(folder, 'dist/.python'), 'utf8')).toBe(`${join(folder, 'venv/python')}\n`);
});
