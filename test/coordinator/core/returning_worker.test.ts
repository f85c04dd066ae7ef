import { describe, expect, it } from 'vitest';
import { FACTS, holdingOf, jobRecord, LoneLeader, sent } from './lone_leader.js';

const PAIR = ['workers: {min: 2}'];

describe('a worker that comes back in a new session', () => {
  it('is refused if its engine computes other bits, whatever became of the session in which it was told so', () => {
    const leader = new LoneLeader(jobRecord(['workers: {min: 1}']));
    leader.begin('w1');
    leader.hello('w2');
    const odd = { ...FACTS, fingerprint: 'g' };
    expect(sent(leader.loaded('w2', odd))).toEqual(['w2 unload']);
    const again = leader.hello('w2', holdingOf({ facts: odd }), 's2');
    expect(sent(again)).toEqual(['s2 welcome', 's2 unload']);
    expect(leader.run.formation).toMatchObject({ kind: 'started', record: { generation: 1 } });
  });

  it('is refused by a new leader that has never heard of it', () => {
    const leader = new LoneLeader(jobRecord([], { facts: FACTS }));
    const again = leader.hello('w2', holdingOf({ facts: { ...FACTS, datasetDigest: 'e' } }));
    expect(sent(again)).toEqual(['w2 welcome', 'w2 unload']);
    expect(leader.run.refused.get('w2')?.reason).toMatch(/its data set has other content/);
  });

  it('is tried again when it was started anew: what it was refused for may have been mended', () => {
    const leader = new LoneLeader(jobRecord(PAIR));
    leader.hello('w1');
    leader.hello('w2');
    leader.loaded('w1');
    expect(sent(leader.loaded('w2', { ...FACTS, datasetDigest: 'e' }))).toContain('w2 unload');
    leader.say('w2', { kind: 'unloaded', job: 'j' });
    expect(sent(leader.later(1_000))).toEqual([]);
    expect(sent(leader.hello('w2', undefined, 's2'))).not.toContain('s2 load');
    const identity = { worker: 'w2', incarnation: 'w2#2', host: 'h', pid: 2, peerAddress: 'w2:1' };
    const machine = { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 };
    const rest = { protocol: 1, term: 0, measures: false, holding: undefined };
    expect(sent(leader.say('s3', { kind: 'hello', ...identity, machine, ...rest }))).toContain('s3 load');
    leader.loaded('s3');
    expect(leader.run.refused.size).toBe(0);
    expect(leader.run.formation.kind).toBe('preparing');
  });

  it('begins a generation at once if it has not heard of the start of the last one', () => {
    const leader = new LoneLeader(jobRecord(PAIR));
    leader.begin('w1', 'w2');
    const again = leader.hello('w2', holdingOf({ generation: 1 }), 's2');
    expect(sent(again)).toEqual(['s2 welcome', 'w1 prepare', 's2 prepare']);
  });

  it('begins none if it has', () => {
    const leader = new LoneLeader(jobRecord(PAIR));
    leader.begin('w1', 'w2');
    expect(sent(leader.hello('w2', holdingOf({ generation: 1, started: true }), 's2'))).toEqual(['s2 welcome']);
  });

  it('is asked again if it owes an answer, which may be lost', () => {
    const leader = new LoneLeader(jobRecord(PAIR));
    for (const worker of ['w1', 'w2']) leader.hello(worker);
    for (const worker of ['w1', 'w2']) leader.loaded(worker);
    leader.prepared('w1', 1);
    const again = leader.hello('w2', holdingOf({ generation: 1 }), 's2');
    expect(sent(again)).toEqual(['s2 welcome', 'w1 prepare', 's2 prepare']);
    leader.prepared('w1', 2);
    leader.prepared('s2', 2);
    expect(sent(leader.stored())).toContain('s2 start');
  });
});

describe('an engine that fails and is there again', () => {
  function failed(leader: LoneLeader): void {
    const engine = { phase: 'exit', failure: 'engine', message: 'killed', traceback: '' } as const;
    leader.say('w2', { kind: 'engineFailed', job: 'j', engineStart: 1, ...engine });
    expect(sent(leader.later(600))).toContain('w2 load');
    leader.loaded('w2', FACTS, 2);
  }

  it('before etcd has the generation: another one is prepared, because the engine that was asked is gone', () => {
    const leader = new LoneLeader(jobRecord(PAIR));
    for (const worker of ['w1', 'w2']) leader.hello(worker);
    for (const worker of ['w1', 'w2']) leader.loaded(worker);
    for (const worker of ['w1', 'w2']) leader.prepared(worker, 1);
    failed(leader);
    const after = sent(leader.stored());
    expect(after).not.toContain('w2 start');
    expect(after).toContain('w2 prepare');
  });

  it('before all have answered: what the engine before it held is not counted upon', () => {
    const leader = new LoneLeader(jobRecord(PAIR));
    for (const worker of ['w1', 'w2']) leader.hello(worker);
    for (const worker of ['w1', 'w2']) leader.loaded(worker);
    leader.prepared('w2', 1, { committed: 3 });
    failed(leader);
    leader.prepared('w1', 1);
    expect(leader.run.formation.kind).not.toBe('recording');
  });
});

it('an unload that is answered late takes no job away that was given since', () => {
  const leader = new LoneLeader(jobRecord(['workers: {min: 3}']));
  leader.begin('w1', 'w2', 'w3');
  const digest = (worker: string, state: string) =>
    leader.say(worker, { kind: 'digestReported', job: 'j', committed: 1, weights: 'x', state });
  digest('w1', 'x');
  digest('w2', 'x');
  expect(sent(digest('w3', 'y'))).toContain('w3 unload');
  // Its engine dies before it hears that.
  const engine = { phase: 'exit', failure: 'engine', message: 'killed', traceback: '' } as const;
  leader.say('w3', { kind: 'engineFailed', job: 'j', engineStart: 1, ...engine });
  expect(sent(leader.later(600))).toContain('w3 load');
  expect(sent(leader.say('w3', { kind: 'unloaded', job: 'j' }))).toEqual([]);
});
