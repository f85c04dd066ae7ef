import { expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import type { CoordinatorState, JobRun } from '../../../coordinator/core/state.js';
import { addJob, addWorker, leadingState } from '../web/known_jobs.js';
import { checkpointRecord, FACTS, holdingOf, jobRecord, LoneLeader, sent } from './lone_leader.js';

/** A job that was sent away, and needs two workers. */
function sentAway(state: CoordinatorState): JobRun {
  const run = addJob(state, 'a');
  run.record = { ...run.record, spec: { ...run.record.spec, workersMin: 2 } };
  run.sentAway = 'sent away for job b';
  return run;
}

function loads(state: CoordinatorState): readonly string[] {
  const commands = apply(state, { nowMs: 1_000, wallMs: 0, event: { kind: 'ticked' } });
  return commands.flatMap((one) => (one.kind === 'send' && one.message.kind === 'load' ? [one.session] : []));
}

it('a job that was sent away gets what it lacks when a worker returns with it', () => {
  const state = leadingState();
  const run = sentAway(state);
  addWorker(state, 'w1', 'a');
  addWorker(state, 'w2');
  expect(loads(state)).toEqual(['s-w2']);
  expect(run.sentAway).toBeUndefined();
});

it('while one of its workers is being saved a job that is sent away gets no others', () => {
  const state = leadingState();
  const run = sentAway(state);
  addWorker(state, 'w1', 'a');
  addWorker(state, 'w2');
  addWorker(state, 'w3', 'a');
  const saved = state.workers.get('w1');
  if (saved === undefined) throw new Error('it is there');
  saved.withdrawn = 'job b waits for it';
  expect(loads(state)).toEqual([]);
  expect(run.sentAway).toBe('sent away for job b');
});

it('a job that is stuck is saved and sent away for one that can start with its workers', () => {
  const leader = new LoneLeader(jobRecord(['workers: {min: 2}', 'priority: -1'], { facts: FACTS }), [
    checkpointRecord({ committed: 2 }),
  ]);
  leader.hello('w1', holdingOf({ committed: 3 }));
  leader.run.record = {
    ...leader.run.record,
    state: 'running',
    progress: { ...leader.run.record.progress, committed: 3 },
  };
  addJob(leader.state, 'k');
  expect(sent(leader.later(29_000))).toEqual([]);
  expect(sent(leader.later(2_000))).toEqual(['w1 takeSnapshot']);
  expect(leader.run.sentAway).toBe('sent away for job k (it lacked workers itself)');
});

/** Three workers train, the last of them is cordoned, and another job waits for so many. */
function cordonedWhileLent(lines: readonly string[], waitsFor: number): { leader: LoneLeader; other: JobRun } {
  const leader = new LoneLeader(jobRecord(['workers: {min: 2, max: 3}', ...lines], { facts: FACTS }));
  leader.begin('w1', 'w2', 'w3');
  expect(leader.run.formation.kind).toBe('started');
  leader.run.lastCommitMs = 1;
  for (const worker of leader.state.workers.values()) worker.committed = 1;
  leader.happen({ kind: 'cordon', request: 'r', worker: 'w3', reason: 'new fan' });
  leader.stored();
  const other = addJob(leader.state, 'k');
  other.record = { ...other.record, spec: { ...other.record.spec, workersMin: waitsFor, workersMax: waitsFor } };
  return { leader, other };
}

it('of lent workers one that is cordoned stays where it is: nobody else could have it', () => {
  const { leader, other } = cordonedWhileLent([], 1);
  expect(sent(leader.later(300))).toEqual(['w2 unload', 'w1 prepare', 'w3 prepare']);
  expect(other.waitsFor).toBe('waits for 1 worker that smaller jobs are giving up');
});

it('no job is sent away for a worker that is cordoned', () => {
  const { leader, other } = cordonedWhileLent(['priority: -1', 'checkpoint: {every: 1}'], 3);
  expect(sent(leader.later(300))).toEqual([]);
  expect(other.waitsFor).toBe('waits for 3 workers, of which 0 are idle; 1 worker: it is cordoned');
});
