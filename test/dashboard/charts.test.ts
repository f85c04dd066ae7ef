import { expect, it } from 'vitest';
import { axisWidth } from '../../dashboard/charts/axis_width.js';
import { membershipOf } from '../../dashboard/charts/generations.js';
import { smoothed } from '../../dashboard/charts/smooth.js';
import { bytesOfText, bytesText, msText, msTickText, tickText, timeTextIn } from '../../dashboard/figures.js';
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

const lostAt = (timeMs: number, worker: string): EventRow => ({
  ...{ ...base, kind: 'workerLost', timeMs, worker, detectedBy: 'x', detectMs: 1, reason: '' },
});

it('workers that were sent away take part no more, though no other generation has begun', () => {
  const released: EventRow = { ...base, kind: 'workerReleased', timeMs: 200, worker: 'w1', reason: 'preempted' };
  const { presences } = membershipOf(newest, [started(2, 100, ['w1', 'w2']), released], 100, 300);
  expect(presences).toMatchObject([
    { worker: 'w1', toMs: 200 },
    { worker: 'w2', toMs: 300 },
  ]);
});

it('what happens before the first generation that is known lies within what is drawn', () => {
  const { fromMs } = membershipOf(newest, [lostAt(90, 'w3'), started(1, 100, ['w1', 'w2'])], 100, 300);
  expect(fromMs).toBe(90);
});

it('those that took part under the leader before are shown, until the first change under this one', () => {
  const joined: EventRow = { ...base, kind: 'workerJoined', timeMs: 120, worker: 'w4' };
  const events = [joined, lostAt(150, 'w3'), started(6, 160, ['w1', 'w4'])];
  const { generations, presences } = membershipOf({ generation: 6, roster: ['w1', 'w4'] }, events, 50, 300);
  expect(generations).toMatchObject([{ generation: undefined, fromMs: 50 }, { generation: 6 }]);
  expect(presences.map(({ worker, fromMs, toMs }) => [worker, fromMs, toMs])).toEqual([
    ['w1', 50, 160],
    ['w3', 50, 150],
    ['w1', 160, 300],
    ['w4', 160, 300],
  ]);
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

it.each([
  [0, '0 ms'],
  [1e-7, '0 ms'],
  [0.04, '0.04 ms'],
  [1.26, '1.3 ms'],
  [99.4, '99 ms'],
  [99.7, '100 ms'],
  [9_999, '9999 ms'],
  [12_340, '12.3 s'],
  [undefined, '–'],
])('%s milliseconds are shown as %s', (ms, text) => {
  expect(msText(ms)).toBe(text);
});

it.each([
  [4.1e9, 33e9, '4.1 of 33 GB'],
  [9e8, 33e9, '900 MB of 33 GB'],
  [99.7e6, 2e8, '100 of 200 MB'],
  [null, 33e9, '–'],
  [null, null, '–'],
])('%s of %s bytes are shown as %s', (used, all, text) => {
  expect(bytesOfText(used, all)).toBe(text);
});

it.each([
  [
    [2.3, 2.3125, 2.325],
    ['2.3', '2.3125', '2.325'],
  ],
  [
    [10_000, 10_250, 10_500],
    ['10000', '10250', '10500'],
  ],
  [
    [0.1 + 0.2, 1.25e-7],
    ['0.3', '1.25e-7'],
  ],
])('the ticks %j are told from each other', (ticks, texts) => {
  expect(ticks.map(tickText)).toEqual(texts);
});

it('ticks of a time say what they are', () => {
  expect([0.25, 10, 12.5, 12_500].map(msTickText)).toEqual(['0.25 ms', '10 ms', '12.5 ms', '12.5 s']);
});

it('an axis is as wide as its labels', () => {
  expect(axisWidth(null)).toBe(axisWidth(['100']));
  expect(axisWidth(['0', '1,000,000'])).toBeGreaterThan(axisWidth(['100']));
});

it('where a time of day comes again, the day is said', () => {
  const day = 86_400_000;
  expect(timeTextIn(0, day)(day)).toMatch(/^\d\d:\d\d:\d\d$/);
  expect(timeTextIn(0, 2 * day)(day)).toMatch(/^0\d Jan, \d\d:\d\d$/);
});

it('bytes that are not known are a dash', () => {
  expect([bytesText(null), bytesText(0), bytesText(99.7e6)]).toEqual(['–', '0 B', '100 MB']);
});
