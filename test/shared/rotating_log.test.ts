import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { newRunFolder } from '../../cli/run_folder.js';
import { RotatingLog } from '../../shared/rotating_log.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-log-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

it('a log keeps its last part and the part before', () => {
  const path = join(folder, 'x.log');
  const log = new RotatingLog(path, 100);
  for (let i = 0; i < 1000; i++) log.write(Buffer.from(`line ${String(i).padStart(4, '0')}\n`));
  log.close();
  expect(statSync(path).size + statSync(`${path}.1`).size).toBeLessThanOrEqual(200);
  expect(readFileSync(`${path}.1`, 'utf8') + readFileSync(path, 'utf8')).toMatch(/^(line \d{4}\n)+line 0999\n$/);
});

it("a log that cannot be renamed throws, and writes into nobody else's file", () => {
  const log = new RotatingLog(join(folder, 'x.log'), 10);
  log.write(Buffer.from('0123456789'));
  rmSync(join(folder, 'x.log'));
  const other = openSync(join(folder, 'other'), 'a');
  for (let tries = 0; tries < 2; tries++) expect(() => log.write(Buffer.from('more'))).toThrow(/ENOENT/);
  expect(fstatSync(other).size).toBe(0);
  log.close();
  closeSync(other);
});

it('a log goes on where another process left it', () => {
  const path = join(folder, 'x.log');
  for (const text of ['one\n', 'two\n']) {
    const log = new RotatingLog(path);
    log.write(Buffer.from(text));
    log.close();
  }
  expect(readFileSync(path, 'utf8')).toBe('one\ntwo\n');
});

it('two runs in the same second get folders of their own', () => {
  const time = new Date(2026, 10, 3, 4, 5, 6);
  expect(newRunFolder('x', time, folder)).toBe(join(folder, 'x-20261103-040506'));
  expect(newRunFolder('x', time, folder)).toBe(join(folder, 'x-20261103-040506-2'));
});
