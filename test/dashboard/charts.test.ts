import { expect, it } from 'vitest';
import { membershipOf } from '../../dashboard/charts/generations.js';
import { smoothed } from '../../dashboard/charts/smooth.js';
import { routeOf } from '../../dashboard/route.js';
import type { EventRow } from '../../shared/wire/dashboard.js';

const newest = { generation: 2, roster: ['w1', 'w2'] };
const base = { job: 'a', sequence: 0 };
const started = (generation: number, timeMs: number, workers: readonly string[]): EventRow => ({
  ...{ ...base, kind: 'generationStarted', timeMs, generation, step: timeMs, reason: '', restoredFrom: '' },
  workers: [...workers],
});

it('a worker takes part until it is lost, the others until the next generation', () => {
  const lost: EventRow = {
    ...base,
    kind: 'workerLost',
    timeMs: 150,
    worker: 'w2',
    detectedBy: 'x',
    detectMs: 1,
    reason: '',
  };
  const events = [started(1, 100, ['w1', 'w2']), lost, started(2, 160, ['w1'])];
  const { presences, losses, workers } = membershipOf(newest, events, 100, 300);
  expect(presences.map(({ worker, fromMs, toMs }) => [worker, fromMs, toMs])).toEqual([
    ['w1', 100, 160],
    ['w2', 100, 150],
    ['w1', 160, 300],
  ]);
  expect(losses).toHaveLength(1);
  expect(workers).toEqual(['w1', 'w2']);
});

it('after a change of leader the generation that goes on is shown from the first sign of it', () => {
  const { generations } = membershipOf(newest, [], 50, 300);
  expect(generations).toMatchObject([{ generation: 2, workers: ['w1', 'w2'], fromMs: 50, toMs: 300 }]);
});

it('smoothing keeps gaps, and begins with the first value', () => {
  expect(smoothed([4, null, 4], 0.9)).toEqual([4, null, expect.closeTo(4)]);
  expect(smoothed([1, 2, 3], 0)).toEqual([1, 2, 3]);
});

it.each([
  ['', { kind: 'jobs' }],
  ['#/jobs', { kind: 'jobs' }],
  ['#/nodes', { kind: 'nodes' }],
  ['#/jobs/abc', { kind: 'job', job: 'abc' }],
  ['#/jobs/a%2Fb', { kind: 'job', job: 'a/b' }],
  ['#/jobs/%', { kind: 'job', job: '%' }],
])('the address %s is the page %o', (hash, route) => {
  expect(routeOf(hash)).toEqual(route);
});
