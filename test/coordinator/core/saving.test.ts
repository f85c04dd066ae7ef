/** Saves, and those who fail at what is not theirs any more. */
import { expect, it } from 'vitest';
import { fromStore, toStore } from '../../../coordinator/io/records.js';
import { checkpointRecord, FACTS, holdingOf, jobRecord, LoneLeader, sent } from './lone_leader.js';

const SAVE = '1-1';

function shardFacts(shard: number) {
  return { shard, file: `shard-0000${shard}-of-00002.safetensors`, bytes: 8, sha256: 'a'.repeat(64) };
}

/** Two workers have written their shards of step 5, or had: the second one's session has ended, and its shard is the first one's. */
function takenOver(): LoneLeader {
  const leader = new LoneLeader(jobRecord(['checkpoint: {every: 5}'], { facts: FACTS }));
  leader.begin('w1', 'w2');
  const taken = { kind: 'snapshotTaken', job: 'j', snapshot: { committed: 5, bytes: 100 }, copyMs: 1 } as const;
  leader.say('w1', taken);
  expect(sent(leader.say('w2', taken))).toEqual(['w1 writeShard', 'w2 writeShard']);
  leader.say('w1', { kind: 'shardWritten', job: 'j', save: SAVE, shard: shardFacts(0) });
  expect(sent(leader.happen({ kind: 'session_closed', session: 'w2', reason: 'gone' }))).toContain('w1 writeShard');
  leader.hello('w2', holdingOf({ generation: 1, started: true }), 's2');
  return leader;
}

function failure(save = SAVE) {
  return { kind: 'saveFailed', job: 'j', save, reason: 'its folder is gone' } as const;
}

it('a worker whose shard was given to another one does not fail the save', () => {
  const leader = takenOver();
  leader.say('s2', failure());
  expect(leader.run.saving.save).toMatchObject({ stage: 'writing' });
  const last = leader.say('w1', { kind: 'shardWritten', job: 'j', save: SAVE, shard: shardFacts(1) });
  expect(sent(last)).toEqual(['w1 publishCheckpoint']);
  leader.say('s2', failure());
  expect(leader.run.saving.save).toMatchObject({ stage: 'publishing' });
});

it('what is published is recorded, whoever fails meanwhile', () => {
  const leader = takenOver();
  leader.say('w1', { kind: 'shardWritten', job: 'j', save: SAVE, shard: shardFacts(1) });
  const published = { path: '/c/j/step-000000005', manifestSha256: 'm', stateSha256: 's', bytes: 9 };
  leader.say('w1', { kind: 'checkpointPublished', job: 'j', save: SAVE, ...published });
  leader.say('s2', failure());
  leader.say('w1', failure());
  expect(leader.run.saving.save).toMatchObject({ stage: 'recording' });
  leader.stored();
  expect(leader.run.saving.save).toBeUndefined();
  const release = { kind: 'releaseSnapshot', save: SAVE, abandoned: false };
  expect(leader.commands).toContainEqual(
    expect.objectContaining({ session: 'w1', message: expect.objectContaining(release) }),
  );
});

it('the writer of a shard that is missing, and the publisher, do', () => {
  const writing = takenOver();
  writing.say('w1', failure('1-7'));
  expect(writing.run.saving.save).toBeDefined();
  writing.say('w1', failure());
  expect(writing.run.saving.save).toBeUndefined();
  const publishing = takenOver();
  publishing.say('w1', { kind: 'shardWritten', job: 'j', save: SAVE, shard: shardFacts(1) });
  publishing.say('w1', failure());
  expect(publishing.run.saving.save).toBeUndefined();
});

/** The only worker saves step `committed`, and etcd has it. */
function save(leader: LoneLeader, committed: number, id: string): void {
  leader.say('w1', { kind: 'snapshotTaken', job: 'j', snapshot: { committed, bytes: 100 }, copyMs: 1 });
  const shard = { ...shardFacts(0), file: 'shard-00000-of-00001.safetensors' };
  leader.say('w1', { kind: 'shardWritten', job: 'j', save: id, shard });
  const published = { path: `/c/j/step-${committed}`, manifestSha256: 'm', stateSha256: 's', bytes: 9 };
  leader.say('w1', { kind: 'checkpointPublished', job: 'j', save: id, ...published });
  leader.stored();
}

function removals(leader: LoneLeader): readonly string[] {
  return leader.commands.flatMap((one) =>
    one.kind === 'send' && one.message.kind === 'removeCheckpoint' ? [one.message.path] : [],
  );
}

it('what a leader that is gone had not heard to be removed is removed by the next one', () => {
  const record = jobRecord(['checkpoint: {every: 2, keep: 1}', 'workers: {min: 1}'], { facts: FACTS });
  const first = new LoneLeader(record, [checkpointRecord({ committed: 2 })]);
  first.begin('w1');
  save(first, 4, '1-1');
  expect(removals(first)).toEqual(['/c/j/step-2']);
  const puts = first.commands.flatMap((one) => (one.kind === 'write' ? one.puts.map(toStore) : []));
  const [stored] = fromStore(new Map(puts.map(({ key, value }) => [key, value]))).checkpoints;
  const next = new LoneLeader(record, stored?.checkpoints, stored?.removing);
  next.begin('w1');
  save(next, 6, '1-1');
  expect(removals(next)).toEqual(['/c/j/step-2', '/c/j/step-4']);
});

it('a checkpoint that counts is not removed, whatever was to become of its place before', () => {
  const record = jobRecord(['checkpoint: {every: 2, keep: 1}', 'workers: {min: 1}'], { facts: FACTS });
  const leader = new LoneLeader(record, [checkpointRecord({ committed: 2 })], ['/c/j/step-2', '/c/j/step-1']);
  expect([...leader.run.saving.removing]).toEqual(['/c/j/step-1']);
});
