import { expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import type { CoordinatorState, JobRun } from '../../../coordinator/core/state.js';
import { addJob, addWorker, leadingState } from '../web/known_jobs.js';

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
