import { expect, it } from 'vitest';
import { Histories } from '../../../coordinator/web/histories.js';
import { addJob, addStep, leadingState } from './known_jobs.js';

it('events are read once, however often one looks', () => {
  const state = leadingState();
  const run = addJob(state, 'a');
  const histories = new Histories();
  addStep(run, 0);
  histories.read(run, state.jobs);
  histories.read(run, state.jobs);
  addStep(run, 1);
  expect(histories.read(run, state.jobs)?.totals).toMatchObject({ steps: 2, samples: 8, pulledBytes: 200 });
});

it('jobs that have ended make room for others, open ones do not', () => {
  const state = leadingState();
  const histories = new Histories(2);
  const [first, second, third] = ['a', 'b', 'c'].map((job) => addJob(state, job));
  if (first === undefined || second === undefined || third === undefined) throw new Error('no jobs');
  histories.read(first, state.jobs);
  histories.read(second, state.jobs);
  expect(histories.read(third, state.jobs)).toBeUndefined();
  first.record = { ...first.record, state: 'finished' };
  expect(histories.read(third, state.jobs)).toBeDefined();
  expect(histories.of('a')).toBeUndefined();
  expect(histories.of('b')).toBeDefined();
});
