import { expect, it } from 'vitest';
import { CONSUMED_BYTES } from '../../../shared/consumption.js';
import { checkpointRecord, FACTS, holdingOf, jobRecord, LoneLeader, sent } from './lone_leader.js';

/** Two workers train, and a third one, which has just come, heals from them. */
function healing(): LoneLeader {
  const leader = new LoneLeader(jobRecord(['workers: {min: 2}'], { facts: FACTS }), [
    checkpointRecord({ committed: 2 }),
  ]);
  leader.hello('w1', holdingOf({ committed: 3 }));
  leader.hello('w2', holdingOf({ committed: 3 }));
  leader.prepared('w1', 1, { committed: 3 });
  leader.prepared('w2', 1, { committed: 3 });
  leader.stored();
  leader.hello('w3');
  leader.loaded('w3');
  for (const worker of ['w1', 'w2']) leader.prepared(worker, 2, { committed: 3 });
  leader.prepared('w3', 2, { generation: 0 });
  leader.stored();
  const report = { enginePid: 7, microbatchMs: 0, restoredPieces: 0, loopDelayMs: 0 };
  for (const worker of ['w1', 'w2', 'w3']) leader.say(worker, { kind: 'heartbeat', committed: 3, ...report });
  const step = {
    job: 'j',
    generation: 1,
    step: 0,
    loss: 1,
    weight: 4,
    consumed: Buffer.alloc(4 * CONSUMED_BYTES),
    skipped: false,
  };
  const times = { stepMs: 1, computeMs: 1, reduceMs: 0, applyMs: 0, pulledBytes: 0, gradNorm: undefined };
  leader.say('w1', { kind: 'stepCommitted', ...step, ...times });
  expect(leader.run.formation).toMatchObject({ kind: 'started', record: { generation: 2 } });
  return leader;
}

it('the last worker that has the state is saved before it leaves, though another one heals from it', () => {
  const leader = healing();
  expect(sent(leader.say('w2', { kind: 'leaving' }))).toContain('w2 unload');
  const last = sent(leader.say('w1', { kind: 'leaving' }));
  expect(last).toContain('w1 takeSnapshot');
  expect(last).not.toContain('w1 unload');
});

it('once the other one has healed the worker is let go', () => {
  const leader = healing();
  leader.say('w2', { kind: 'leaving' });
  leader.say('w3', { kind: 'healed', job: 'j', generation: 2, committed: 3 });
  expect(sent(leader.say('w1', { kind: 'leaving' }))).toContain('w1 unload');
});

it('an exchange that rests because a member heals is left alone for longer', () => {
  const leader = healing();
  expect(sent(leader.later(61_000))).not.toContain('w1 prepare');
  leader.say('w3', { kind: 'healed', job: 'j', generation: 2, committed: 3 });
  expect(sent(leader.later(61_000))).toContain('w1 prepare');
});
