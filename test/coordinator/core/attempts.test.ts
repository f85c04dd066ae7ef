import { expect, it } from 'vitest';
import { MOST_ATTEMPTS_KEPT } from '../../../coordinator/core/release.js';
import { jobRecord, LoneLeader } from './lone_leader.js';

it('a job that has had very many workers knows the newest, and those that it has', () => {
  const leader = new LoneLeader(jobRecord(['workers: {min: 1}']));
  leader.begin('w1');
  for (let number = 0; number < MOST_ATTEMPTS_KEPT + 10; number++) leader.run.attempts.set(`gone-${number}`, 1);
  leader.run.attempts.set('w2', 3);
  leader.hello('w2');
  const { attempts } = leader.run;
  expect(attempts.size).toBe(MOST_ATTEMPTS_KEPT);
  expect([attempts.get('w1'), attempts.get('w2')]).toEqual([1, 4]);
  expect([attempts.has('gone-0'), attempts.has(`gone-${MOST_ATTEMPTS_KEPT + 9}`)]).toEqual([false, true]);
});
