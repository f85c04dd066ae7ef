/** Who gets which workers when a new leader does not know yet who has them, and when one that was replaced comes back. */
import { expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import { type CoordinatorState, DEFAULT_SETTINGS, initialState } from '../../../coordinator/core/state.js';
import type { Member } from '../../../shared/wire/session.js';
import { FACTS, holdingOf, jobRecord, LoneLeader, sent } from './lone_leader.js';

const HEALTH = { enginePid: 7, microbatchMs: 0, restoredPieces: 0, loopDelayMs: 0 };
const SPEC = ['workers: {min: 2, max: 2}'];

function member(worker: string, lo: number): Member {
  return {
    worker,
    incarnation: `${worker}#1`,
    peerAddress: `${worker}:1`,
    lo,
    length: 2,
    heals: false,
    engineStart: 1,
  };
}

/** The job has two workers by what etcd says; the leader is new, and has heard of nobody yet. */
class NewLeader extends LoneLeader {
  override readonly state: CoordinatorState = initialState({ ...DEFAULT_SETTINGS, name: 'c2' });

  constructor() {
    super(jobRecord(SPEC, { facts: FACTS, state: 'running' }));
    const generation = { job: 'j', generation: 1, term: 1, committed: 0, attempts: {} };
    const generations = [{ ...generation, roster: [member('w1', 0), member('w2', 2)] }];
    const found = { jobs: [this.record], checkpoints: [], nodes: [], accounts: undefined };
    const event = { kind: 'elected', term: 2, generations, ...found } as const;
    this.commands.push(...apply(this.state, { nowMs: 0, wallMs: 0, event }));
  }
}

const HELD = holdingOf({ generation: 1, started: true, committed: 3 });

it('idle workers that greet a new leader first are not given to a job whose own ones are about to', () => {
  const leader = new NewLeader();
  expect(sent(leader.hello('w8'))).not.toContain('w8 load');
  expect(sent(leader.hello('w9'))).not.toContain('w9 load');
  leader.hello('w1', HELD);
  leader.hello('w2', HELD);
  leader.later(300);
  expect(sent(leader.commands).filter((one) => one.endsWith(' load'))).toEqual([]);
  expect(leader.run.formation).toMatchObject({ kind: 'started', record: { generation: 1 } });
});

it('if its own ones do not come in time it gets the idle ones', () => {
  const leader = new NewLeader();
  leader.hello('w8');
  leader.hello('w9');
  const { adoptMs } = leader.state.settings;
  expect(sent(leader.later(adoptMs - 100))).not.toContain('w8 load');
  leader.later(100);
  leader.later(200);
  expect(sent(leader.commands)).toEqual(expect.arrayContaining(['w8 load', 'w9 load']));
});

it('a worker that returns to a job that has got another one in its place is let go', () => {
  const leader = new LoneLeader(jobRecord(SPEC, { facts: FACTS }));
  leader.begin('w1', 'w2');
  leader.happen({ kind: 'session_closed', session: 'w2', reason: 'gone' });
  expect(sent(leader.hello('w3'))).toContain('w3 load');
  leader.prepared('w1', 2);
  leader.loaded('w3');
  const { generation } = leader.run;
  leader.prepared('w1', generation);
  leader.prepared('w3', generation);
  leader.stored();
  expect(leader.run.formation).toMatchObject({ kind: 'started', record: { generation } });
  leader.nowMs += 10;
  const times = { stepMs: 1, computeMs: 1, reduceMs: 0, applyMs: 0, pulledBytes: 0, gradNorm: undefined };
  const report = { kind: 'stepCommitted', job: 'j', generation, step: 0, loss: 1, weight: 4, skipped: false } as const;
  leader.say('w1', { ...report, consumed: Buffer.alloc(80), ...times });
  for (const worker of ['w1', 'w3']) leader.say(worker, { kind: 'heartbeat', committed: 1, ...HEALTH });
  expect(sent(leader.hello('w2', holdingOf({ generation: 1, started: true }), 'again'))).toContain('again unload');
  expect(leader.run.formation).toMatchObject({ kind: 'started', record: { generation } });
});
