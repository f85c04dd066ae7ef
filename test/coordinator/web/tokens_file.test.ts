/** What --check-config says of the file of tokens. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { ensureBuilt, repository } from '../../worker/built_threads.js';

let folder = '';
beforeAll(ensureBuilt);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-tokens-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function check() {
  const path = join(folder, 'c1.yaml');
  const dashboard = '{listen: 127.0.0.1:0, tokens: tokens}';
  writeFileSync(path, `name: c1\netcd: {endpoints: ["http://127.0.0.1:1"]}\ndashboard: ${dashboard}\n`);
  const args = [join(repository, 'dist/coordinator/main.js'), '--check-config', '--config', path];
  const { status, stdout, stderr } = spawnSync('node', args, { timeout: 10_000 });
  return { status, text: `${stdout}${stderr}` };
}

it('one that everybody can read, and that says whose tokens there are, is right', () => {
  writeFileSync(join(folder, 'tokens'), `ada admin ${'0'.repeat(64)}\n`, { mode: 0o644 });
  expect(check()).toEqual({ status: 0, text: `${folder}/c1.yaml: ok\n` });
});

it('one that is missing, or has a wrong line, is a bad configuration', () => {
  const begins = `${folder}/c1.yaml: dashboard.tokens: ${folder}/tokens: `;
  expect(check()).toEqual({ status: 78, text: expect.stringContaining(`${begins}ENOENT`) });
  writeFileSync(join(folder, 'tokens'), 'ada\n');
  expect(check()).toEqual({ status: 78, text: `${begins}line 1: must be NAME ROLE SHA256, or a sha256 alone\n` });
});

it.runIf(process.getuid?.() === 0)(
  'one that only root can read is said to be so: the unit runs as another user',
  () => {
    writeFileSync(join(folder, 'tokens'), '');
    chmodSync(join(folder, 'tokens'), 0o600);
    const reason = `${folder}/tokens may be read by root, but not by everybody`;
    expect(check()).toEqual({ status: 0, text: `${folder}/c1.yaml: ok; tokens not checked: ${reason}\n` });
  },
);
