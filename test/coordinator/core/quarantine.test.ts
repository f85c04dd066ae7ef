import { expect, it } from 'vitest';
import { jobRecord, LoneLeader } from './lone_leader.js';

const HOUR_MS = 3_600_000;

it('what a worker failed at more than an hour ago is forgotten, were the worker never seen again', () => {
  const leader = new LoneLeader(jobRecord());
  const fail = (worker: string): void => {
    leader.hello(worker);
    const engine = { phase: 'exit', failure: 'engine', message: 'killed', traceback: '' } as const;
    leader.say(worker, { kind: 'engineFailed', job: 'j', engineStart: 1, ...engine });
  };
  fail('w1');
  leader.later(HOUR_MS / 2);
  fail('w2');
  expect([...leader.state.failures.keys()]).toEqual(['w1', 'w2']);
  leader.later(HOUR_MS / 2 + 1);
  fail('w3');
  expect([...leader.state.failures.keys()]).toEqual(['w2', 'w3']);
});
