import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { AuditLog } from '../../../coordinator/io/audit_log.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-audit-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const entry = { who: 'admin ada', from: '127.0.0.1:1', call: 'Jobs.Drain', on: { worker: 'w1' }, outcome: 'OK' };

it('what was done is in the file, one object a line, for its owner only, and goes on in the file that was there', () => {
  const path = join(folder, 'audit.log');
  new AuditLog('c1', path).record(entry);
  new AuditLog('c1', path).record({
    ...entry,
    on: { reason: 'two\nlines\u001b[31m' },
    outcome: 'NOT_FOUND',
    reason: 'x',
  });
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  const [first, second] = lines.map((line) => JSON.parse(line));
  expect(lines).toHaveLength(2);
  expect(first).toEqual({ ...entry, coordinator: 'c1', time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) });
  expect(second).toMatchObject({ outcome: 'NOT_FOUND', reason: 'x' });
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

it('a file that cannot be opened is refused at the start', () => {
  expect(() => new AuditLog('c1', join(folder, 'none', 'audit.log'))).toThrow(/ENOENT/);
});
