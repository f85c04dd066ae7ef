import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { AuditEntry } from '../../../coordinator/io/audit_log.js';
import { RefusalNotes } from '../../../coordinator/io/refusal_notes.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function entry(who: string): AuditEntry {
  const on = { worker: 'w1' };
  return { who, from: '127.0.0.1:9', call: 'Jobs.Cordon', on, outcome: 'PERMISSION_DENIED', reason: 'no' };
}

function recorder() {
  const entries: AuditEntry[] = [];
  let nowMs = 0;
  const notes = new RefusalNotes({ record: (one) => void entries.push(one) }, () => nowMs);
  const pass = (ms: number): void => {
    nowMs += ms;
    vi.advanceTimersByTime(ms);
  };
  return { entries, notes, pass };
}

it('of a flood by one caller the first hundred are written, and then one a second that says how many it stands for', () => {
  const { entries, notes, pass } = recorder();
  for (let count = 0; count < 5_000; count++) notes.record(entry('viewer looker'));
  expect(entries).toHaveLength(100);
  expect(entries[99]).toEqual(entry('viewer looker'));
  pass(1_000);
  expect(entries).toHaveLength(101);
  expect(entries[100]).toEqual({ ...entry('viewer looker'), on: { attempts: '4900' } });
  for (let count = 0; count < 50; count++) notes.record(entry('viewer looker'));
  pass(1_000);
  expect(entries.slice(101).map(({ on }) => on)).toEqual([{ worker: 'w1' }, { attempts: '49' }]);
});

it('others are written meanwhile, and whoever has stopped begins anew', () => {
  const { entries, notes, pass } = recorder();
  for (let count = 0; count < 101; count++) notes.record(entry('viewer looker'));
  notes.record(entry('submitter anna'));
  expect(entries.at(-1)).toEqual(entry('submitter anna'));
  pass(3_600_000);
  entries.length = 0;
  for (let count = 0; count < 100; count++) notes.record(entry('viewer looker'));
  expect(entries).toHaveLength(100);
});
