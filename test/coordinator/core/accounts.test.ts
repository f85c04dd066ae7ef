import { expect, it } from 'vitest';
import type { AccountsRecord } from '../../../coordinator/core/accounts.js';
import { apply } from '../../../coordinator/core/apply.js';
import { addUsage, usageOf } from '../../../coordinator/core/fair_share.js';
import { NOTHING_SPENT } from '../../../coordinator/core/spent.js';
import {
  type CoordinatorState,
  DEFAULT_SETTINGS,
  initialState,
  type JobRecord,
} from '../../../coordinator/core/state.js';
import { addJob, leadingState } from '../web/known_jobs.js';

const DAY_MS = 24 * 3600 * 1000;

function elected(record: JobRecord, accounts: AccountsRecord | undefined, wallMs = 0): CoordinatorState {
  const state = initialState({ ...DEFAULT_SETTINGS, name: 'c2' });
  const event = { kind: 'elected', term: 2, jobs: [record], generations: [], checkpoints: [], nodes: [], accounts };
  apply(state, { nowMs: 50, wallMs, event: { ...event, kind: 'elected' } });
  return state;
}

function written(state: CoordinatorState, nowMs: number): readonly AccountsRecord[] {
  const commands = apply(state, { nowMs, wallMs: 1_000, event: { kind: 'ticked' } });
  const puts = commands.flatMap((command) => (command.kind === 'write' ? command.puts : []));
  return puts.flatMap((put) => (put.kind === 'accounts' ? [put.record] : []));
}

it('are written once a minute, not more often, however many users and jobs there are', () => {
  const state = leadingState();
  const run = addJob(state, 'a');
  for (let user = 0; user < 1_200; user++) addUsage(state.usages, `u${user}`, user, 0);
  for (let job = 0; job < 1_100; job++) addJob(state, `j${job}`);
  run.spent = { ...NOTHING_SPENT, queuedSeconds: 1 / 3 };
  expect(written(state, 59_999)).toEqual([]);
  const [record] = written(state, 60_000);
  expect(record?.users).toHaveLength(1_000);
  expect(record?.users[0]?.user).toBe('u1199');
  expect(record?.jobs).toHaveLength(1_000);
  expect(record?.jobs[0]).toMatchObject({ job: 'a', spent: { queuedSeconds: expect.closeTo(60.332, 3) } });
  expect(written(state, 61_000)).toEqual([]);
});

it('a new leader goes on from them: usage fades, and what a job waited for counts', () => {
  const { record } = addJob(leadingState(), 'a');
  const spent = { ...NOTHING_SPENT, queuedSeconds: 600 };
  const accounts = { wallMs: 1_000, users: [{ user: 'ann', workerSeconds: 100 }], jobs: [{ job: 'a', spent }] };
  const state = elected(record, accounts, 1_000 + DAY_MS);
  expect(usageOf(state.usages, 'ann', 50)).toBeCloseTo(50);
  expect(state.jobs.get('a')).toMatchObject({ spent, waitedMs: 600_000 });
});

it('a clock that is behind makes nobody richer', () => {
  const { record } = addJob(leadingState(), 'a');
  const accounts = { wallMs: DAY_MS, users: [{ user: 'ann', workerSeconds: 100 }], jobs: [] };
  expect(usageOf(elected(record, accounts, 0).usages, 'ann', 50)).toBe(100);
});

it('what a job has stored with its steps is not set back', () => {
  const run = addJob(leadingState(), 'a');
  const newer = { ...NOTHING_SPENT, workerSeconds: 9, computeSeconds: 9 };
  const older = { ...NOTHING_SPENT, workerSeconds: 5, waitingSeconds: 5 };
  const record = { ...run.record, spent: newer };
  const accounts = { wallMs: 0, users: [], jobs: [{ job: 'a', spent: older }] };
  expect(elected(record, accounts).jobs.get('a')?.spent).toEqual(newer);
  expect(elected(record, undefined).jobs.get('a')?.spent).toEqual(newer);
});
