import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { AuditFile } from '../../../coordinator/io/audit_file.js';
import { AuditLog } from '../../../coordinator/io/audit_log.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-audit-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const entry = { who: 'admin ada', from: '127.0.0.1:1', call: 'Jobs.Drain', on: { worker: 'w1' }, outcome: 'OK' };

it('what was done is in the file, one object a line, for its owner only, and goes on in the file that was there', async () => {
  const path = join(folder, 'audit.log');
  const first = new AuditLog('c1', path);
  first.record(entry);
  await first.close();
  const second = new AuditLog('c1', path);
  second.record({ ...entry, on: { reason: 'two\nlines\u001b[31m' }, outcome: 'NOT_FOUND', reason: 'x' });
  await second.close();
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  const [one, two] = lines.map((line) => JSON.parse(line));
  expect(lines).toHaveLength(2);
  expect(one).toEqual({ ...entry, coordinator: 'c1', time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) });
  expect(two).toMatchObject({ outcome: 'NOT_FOUND', reason: 'x' });
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

it('a file that cannot be opened is refused at the start', () => {
  expect(() => new AuditLog('c1', join(folder, 'none', 'audit.log'))).toThrow(/ENOENT/);
});

const heard: string[] = [];
const log = {
  error: (_message: string, fields: { readonly reason: string }) => heard.push(`error: ${fields.reason}`),
  info: (_message: string, fields: { readonly lost: number }) => heard.push(`again, lost ${fields.lost}`),
} as never;

function readAll(fd: number): string {
  const buffer = Buffer.alloc(1 << 20);
  try {
    return buffer.toString('utf8', 0, readSync(fd, buffer));
  } catch {
    // Nothing is there to be read.
    return '';
  }
}

it('a disk that hangs holds up nobody: lines wait, in order and bounded, until nothing more may be begun', async () => {
  heard.length = 0;
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  // Somebody who does not read: writes to it hang when its buffer is full.
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const file = new AuditFile(path, log);
  const line = (number: number) => `${number} ${'x'.repeat(1_000)}\n`;
  let written = 0;
  while (!file.isFull) {
    file.add(line(written++), true);
    // The loop is free: with a write that holds it up this never comes back.
    if (written % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(written).toBeGreaterThanOrEqual(1_000);
  file.add('refused\n', false);
  const owed = 1_000;
  for (let more = 0; more < owed + 5; more++) file.add(line(written + more), true);
  let text = '';
  const all = Array.from({ length: written + owed }, (_, number) => line(number)).join('');
  while (text.length < all.length) {
    text += readAll(reader);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await file.close();
  expect(text + readAll(reader)).toBe(all);
  expect(file.isFull).toBe(false);
  closeSync(reader);
});

it('a disk that is full is said once, and tried again', async () => {
  heard.length = 0;
  const file = new AuditFile('/dev/full', log);
  for (let count = 0; count < 900; count++) file.add('a line\n', false);
  await expect.poll(() => heard).toEqual(['error: ENOSPC: no space left on device, write']);
  expect(file.isFull).toBe(false);
  for (let count = 0; count < 200; count++) file.add('a line\n', false);
  expect(file.isFull).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  expect(heard).toHaveLength(1);
});

it('a full file becomes the one before, and no line is lost', async () => {
  const path = join(folder, 'audit.log');
  const file = new AuditFile(path, log, 100);
  for (const number of [1, 2, 3]) {
    file.add(`${number}${'x'.repeat(58)}\n`, true);
    await file.close();
  }
  expect(readFileSync(`${path}.1`, 'utf8')[0]).toBe('2');
  expect(readFileSync(path, 'utf8')).toBe(`3${'x'.repeat(58)}\n`);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});
