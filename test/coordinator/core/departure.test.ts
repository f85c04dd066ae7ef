import { expect, it } from 'vitest';
import { CONSUMED_BYTES } from '../../../shared/consumption.js';
import type { WorkerMessage } from '../../../shared/wire/session.js';
import { checkpointRecord, FACTS, holdingOf, jobRecord, LoneLeader, sent } from './lone_leader.js';

const HEALTH = { enginePid: 7, microbatchMs: 0, restoredPieces: 0, loopDelayMs: 0 };

function stepReport(step: number): WorkerMessage {
  const consumed = Buffer.alloc(4 * CONSUMED_BYTES);
  const times = { stepMs: 1, computeMs: 1, reduceMs: 0, applyMs: 0, pulledBytes: 0, gradNorm: undefined };
  return {
    kind: 'stepCommitted',
    job: 'j',
    generation: 1,
    step,
    loss: 1,
    weight: 4,
    consumed,
    skipped: false,
    ...times,
  };
}

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
  for (const worker of ['w1', 'w2', 'w3']) leader.say(worker, { kind: 'heartbeat', committed: 3, ...HEALTH });
  leader.say('w1', stepReport(0));
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

/** The only worker has made `committed` steps, the state of step 5 is being written meanwhile, and it is told to stop. */
function toldToStopWhileSaving(committed: number): LoneLeader {
  const leader = new LoneLeader(jobRecord(['checkpoint: {every: 5}', 'workers: {min: 1}'], { facts: FACTS }));
  leader.begin('w1');
  snapshot(leader, 5);
  for (let step = 0; step < committed; step++) leader.say('w1', stepReport(step));
  leader.say('w1', { kind: 'heartbeat', committed, ...HEALTH });
  const told = sent(leader.say('w1', { kind: 'leaving' }));
  expect(told).not.toContain('w1 unload');
  expect(told).not.toContain('w1 takeSnapshot');
  return leader;
}

function snapshot(leader: LoneLeader, committed: number): void {
  leader.say('w1', { kind: 'snapshotTaken', job: 'j', snapshot: { committed, bytes: 100 }, copyMs: 1 });
}

/** The save of this name is written and stored. What that makes the coordinator say. */
function saved(leader: LoneLeader, save: string, committed: number): readonly string[] {
  const shard = { shard: 0, file: 'shard-00000-of-00001.safetensors', bytes: 8, sha256: 'a'.repeat(64) };
  leader.say('w1', { kind: 'shardWritten', job: 'j', save, shard });
  const published = { path: `/c/j/step-${committed}`, manifestSha256: 'm', stateSha256: 's', bytes: 9 };
  leader.say('w1', { kind: 'checkpointPublished', job: 'j', save, ...published });
  return sent(leader.stored());
}

it('what a worker has computed since a save began is saved after it, and only then it is let go', () => {
  const leader = toldToStopWhileSaving(7);
  const first = saved(leader, '1-1', 5);
  expect(first).toContain('w1 takeSnapshot');
  expect(first).not.toContain('w1 unload');
  snapshot(leader, 7);
  expect(saved(leader, '1-2', 7)).toContain('w1 unload');
  expect(leader.run.checkpoints.map(({ committed }) => committed)).toEqual([5, 7]);
});

it('a save that was under way is enough where nothing has been computed since', () => {
  expect(saved(toldToStopWhileSaving(5), '1-1', 5)).toContain('w1 unload');
});

/** The only worker of a job is to go, and is being saved, when its session breaks. */
function drainedWhenItsSessionBroke(): LoneLeader {
  const leader = new LoneLeader(jobRecord(['checkpoint: {every: 5}', 'workers: {min: 1}'], { facts: FACTS }));
  leader.begin('w1');
  for (let step = 0; step < 3; step++) leader.say('w1', stepReport(step));
  leader.say('w1', { kind: 'heartbeat', committed: 3, ...HEALTH });
  leader.happen({ kind: 'drain', request: 'r', worker: 'w1', reason: 'new fan', deadlineMs: 60_000 });
  expect(sent(leader.stored())).toContain('w1 takeSnapshot');
  leader.happen({ kind: 'session_closed', session: 'w1', reason: 'reset' });
  leader.later(100);
  return leader;
}

const HELD = holdingOf({ generation: 1, started: true, committed: 3 });

it('a worker that is drained is still to go when its session has begun anew', () => {
  const leader = drainedWhenItsSessionBroke();
  expect(sent(leader.hello('w1', HELD, 'again'))).toContain('again takeSnapshot');
  const snapshot = { committed: 3, bytes: 100 };
  leader.say('again', { kind: 'snapshotTaken', job: 'j', snapshot, copyMs: 1 });
  const shard = { shard: 0, file: 'shard-00000-of-00001.safetensors', bytes: 8, sha256: 'a'.repeat(64) };
  leader.say('again', { kind: 'shardWritten', job: 'j', save: '1-1', shard });
  const published = { path: '/c/j/step-3', manifestSha256: 'm', stateSha256: 's', bytes: 9 };
  leader.say('again', { kind: 'checkpointPublished', job: 'j', save: '1-1', ...published });
  expect(sent(leader.stored())).toContain('again unload');
});

it('and goes at its deadline, or has gone when it comes back without its job', () => {
  const late = drainedWhenItsSessionBroke();
  late.hello('w1', HELD, 'again');
  expect(sent(late.later(60_000))).toContain('again unload');
  const gone = drainedWhenItsSessionBroke();
  gone.hello('w1', undefined, 'again');
  gone.later(100);
  expect(gone.state.drains.size).toBe(0);
});

it('the state after the last step is saved, too, when the worker has to go before the model is written', () => {
  const leader = new LoneLeader(jobRecord(['checkpoint: {every: 5}', 'workers: {min: 1}'], { facts: FACTS }));
  leader.begin('w1');
  for (let step = 0; step < 9; step++) leader.say('w1', stepReport(step));
  leader.say('w1', { kind: 'heartbeat', committed: 9, ...HEALTH });
  leader.say('w1', { kind: 'digestReported', job: 'j', committed: 9, weights: 'w', state: 's' });
  expect(leader.run.finishing).toBeDefined();
  const told = sent(leader.say('w1', { kind: 'leaving' }));
  expect(told).toContain('w1 takeSnapshot');
  expect(told).not.toContain('w1 unload');
  snapshot(leader, 9);
  expect(saved(leader, '1-1', 9)).toContain('w1 unload');
  leader.happen({ kind: 'session_closed', session: 'w1', reason: 'gone' });
  leader.hello('w2');
  leader.loaded('w2');
  leader.prepared('w2', leader.run.generation);
  leader.stored();
  expect(leader.run.formation).toMatchObject({ kind: 'started', record: { committed: 9 }, restores: { committed: 9 } });
  const digest = { kind: 'digestReported', job: 'j', committed: 9, weights: 'w', state: 's' } as const;
  expect(sent(leader.say('w2', digest))).toContain('w2 finish');
});

it('a cancel that waits for the save after this one is refused when nobody is left to save anything', () => {
  const leader = new LoneLeader(jobRecord(['checkpoint: {every: 5}', 'workers: {min: 1}'], { facts: FACTS }));
  leader.begin('w1');
  for (let step = 0; step < 6; step++) leader.say('w1', stepReport(step));
  snapshot(leader, 5);
  leader.happen({ kind: 'cancel', request: 'c', job: 'j', checkpoint: true });
  leader.happen({ kind: 'session_closed', session: 'w1', reason: 'gone' });
  leader.later(200);
  const message = 'the checkpoint failed, so the job was not cancelled: the job is not training any more';
  const refusal = { kind: 'reply_error', request: 'c', code: 'save_failed', message };
  expect(leader.commands).toContainEqual(refusal);
  expect(leader.run.saving.cancels).toEqual([]);
});

it('a worker that computes on while it is saved before it goes is let go after that save', () => {
  const leader = toldToStopWhileSaving(7);
  expect(saved(leader, '1-1', 5)).toContain('w1 takeSnapshot');
  leader.say('w1', stepReport(7));
  snapshot(leader, 7);
  leader.say('w1', { kind: 'heartbeat', committed: 8, ...HEALTH });
  expect(saved(leader, '1-2', 7)).toContain('w1 unload');
});
