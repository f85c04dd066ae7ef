import { expect, it } from 'vitest';
import { ClusterSource } from '../../../coordinator/web/cluster_source.js';
import { Histories } from '../../../coordinator/web/histories.js';
import { addJob, addWorker, leadingState } from './known_jobs.js';

it('while nobody asks, what has changed is not remembered, and yet the next delta says it', () => {
  const state = leadingState();
  const run = addJob(state, 'a');
  let nowMs = 1_000_000;
  const source = new ClusterSource({
    state,
    histories: new Histories(),
    watched: () => [],
    nowMs: () => nowMs,
    wallMs: () => nowMs,
  });
  source.takeDelta();
  nowMs += 10_000;
  for (let job = 0; job < 1_000; job++) source.jobChanged(`job-${job}`);
  source.jobChanged('a');
  run.record = { ...run.record, state: 'finished' };
  let looked = 0;
  const get = state.jobs.get.bind(state.jobs);
  state.jobs.get = (job) => {
    looked += 1;
    return get(job);
  };
  expect(source.takeDelta()?.jobs?.changed).toMatchObject([{ job: 'a', state: 'finished' }]);
  expect(looked).toBeLessThan(10);
});

it('of more open jobs than are shown, those that run are', () => {
  const state = leadingState();
  for (let number = 0; number < 1_200; number++) {
    const run = addJob(state, `waits-${number}`);
    run.record = { ...run.record, state: 'queued' };
  }
  addJob(state, 'trains');
  const source = new ClusterSource({
    state,
    histories: new Histories(),
    watched: () => [],
    nowMs: () => 0,
    wallMs: () => 0,
  });
  const shown = source.snapshot().jobs.map(({ job }) => job);
  expect(shown).toHaveLength(1_000);
  expect(shown).toContain('trains');
});

it('what a snapshot told and is no more so is taken back, though nobody else was told', () => {
  const state = leadingState();
  const run = addJob(state, 'a');
  let nowMs = 1_000_000;
  const source = new ClusterSource({
    ...{ state, histories: new Histories(), watched: () => [], nowMs: () => nowMs, wallMs: () => nowMs },
  });
  source.takeDelta();
  const { record } = run;
  run.record = { ...record, state: 'queued' };
  addWorker(state, 'w1');
  expect(source.snapshot()).toMatchObject({ jobs: [{ job: 'a' }], nodes: [{ worker: 'w1' }] });
  run.record = record;
  state.workers.delete('w1');
  nowMs += 1_000;
  expect(source.takeDelta()).toMatchObject({ jobs: { changed: [{ job: 'a' }] }, nodes: { gone: ['w1'] } });
});
