import { expect, it } from 'vitest';
import { Speed } from '../../../coordinator/web/speed.js';

function speedOf(steps: number, everyMs: number): Speed {
  const speed = new Speed();
  for (let step = 0; step < steps; step++) speed.add(step * everyMs, 8, everyMs);
  return speed;
}

it('nothing is known of one step', () => {
  expect(speedOf(1, 100).rate(1000)).toBeUndefined();
});

it.each([
  [10, 1000, 1],
  [100, 100, 10],
  [10_000, 1, 1000],
])('%i steps, one every %i ms, are %f a second', (steps, everyMs, expected) => {
  const rate = speedOf(steps, everyMs).rate((steps - 1) * everyMs);
  expect(rate?.stepsPerSecond).toBeCloseTo(expected, 5);
  expect(rate?.samplesPerSecond).toBeCloseTo(expected * 8, 4);
});

it('a job that stands still becomes slower while one looks', () => {
  const speed = speedOf(101, 100);
  const now = speed.rate(10_000)?.stepsPerSecond ?? 0;
  expect(speed.rate(10_150)?.stepsPerSecond).toBe(now);
  expect(speed.rate(20_000)?.stepsPerSecond).toBeLessThan(now * 0.6);
});

it('a clock that is set back begins anew', () => {
  const speed = speedOf(101, 100);
  for (let step = 0; step < 11; step++) speed.add(-3_600_000 + step * 100, 8, 100);
  expect(speed.rate(-3_599_000)?.stepsPerSecond).toBeCloseTo(10, 5);
});

it('what was trained without a coordinator, and is reported at once to the next, was no faster', () => {
  const speed = new Speed();
  for (let step = 0; step < 100; step++) speed.add(step * 0.05, 8, 100);
  expect(speed.rate(5)?.stepsPerSecond).toBeCloseTo(10, 5);
  for (let step = 0; step < 50; step++) speed.add(100 + step * 100, 8, 100);
  expect(speed.rate(5_000)?.samplesPerSecond).toBeCloseTo(80, 5);
});
