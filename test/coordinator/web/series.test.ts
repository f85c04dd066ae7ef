import { expect, it } from 'vitest';
import { JobSeries } from '../../../coordinator/web/series.js';
import { changeFrom } from '../../../coordinator/web/series_columns.js';
import { stepEvent } from './known_jobs.js';

function seriesOf(steps: Iterable<number>, capacity?: number): JobSeries {
  const series = new JobSeries(capacity);
  let sequence = 0;
  for (const step of steps) series.add(stepEvent(step, sequence++, step));
  return series;
}

function* count(to: number): Iterable<number> {
  for (let step = 0; step < to; step++) yield step;
}

it('every step is a point while there is room', () => {
  const series = seriesOf(count(100));
  expect(series.stride).toBe(1);
  expect(changeFrom(series, 0).columns.step).toEqual([...count(100)]);
});

it('a million steps are at most as many points as there is room for, with the right means', () => {
  const series = seriesOf(count(1_000_000));
  expect(series.stride).toBe(1024);
  expect(series.points.length).toBeLessThanOrEqual(1024);
  const { columns } = changeFrom(series, 0);
  expect(columns.count.reduce((sum, one) => sum + one, 0)).toBe(1_000_000);
  // The losses are the steps: 0 to 1023 in the first point.
  expect([columns.loss[0], columns.lossMin[0], columns.lossMax[0]]).toEqual([511.5, 0, 1023]);
  expect(columns.step.at(-1)).toBe(999_999);
});

it('steps that are made again replace what was known of them', () => {
  const series = seriesOf([0, 1, 2, 3, 4, 2, 3]);
  expect(changeFrom(series, 0).columns.step).toEqual([0, 1, 2, 3]);
});

it('only what has changed is told', () => {
  const series = seriesOf(count(10));
  expect(series.takeChange()).toBe(0);
  expect(series.takeChange()).toBeUndefined();
  series.add(stepEvent(10, 10));
  expect(series.takeChange()).toBe(10);
  series.add(stepEvent(4, 11));
  expect(series.takeChange()).toBe(4);
});

it('a point that is not full changes until it is', () => {
  const series = seriesOf(count(9), 8);
  expect(series.stride).toBe(2);
  series.takeChange();
  series.add(stepEvent(9, 9));
  expect(series.takeChange()).toBe(4);
  series.add(stepEvent(10, 10));
  expect(series.takeChange()).toBe(5);
});

it('losses that are no numbers are gaps', () => {
  const series = new JobSeries();
  series.add(stepEvent(0, 0, Number.NaN));
  series.add(stepEvent(1, 1, Number.POSITIVE_INFINITY));
  series.add(stepEvent(2, 2, 3));
  expect(changeFrom(series, 0).columns.loss).toEqual([null, null, 3]);
});

it('a point has the mean time of a step and of each of its parts', () => {
  const { columns } = changeFrom(seriesOf(count(9), 8), 0);
  expect(columns.step).toEqual([1, 3, 5, 7, 8]);
  for (const [column, mean] of [
    [columns.stepMs, 10],
    [columns.dataMs, 0.5],
    [columns.computeMs, 5.5],
    [columns.reduceMs, 1.75],
    [columns.gatherMs, 0.25],
    [columns.applyMs, 1],
  ] as const) {
    expect(column).toEqual(columns.step.map(() => mean));
  }
});

it('of a worker that does not tell data and gather apart, both are nothing', () => {
  const series = new JobSeries();
  series.add({ ...stepEvent(0, 0), dataMs: undefined, gatherMs: undefined });
  series.add(stepEvent(1, 1));
  expect(changeFrom(series, 0).columns).toMatchObject({ dataMs: [0, 0.5], gatherMs: [0, 0.25] });
});
