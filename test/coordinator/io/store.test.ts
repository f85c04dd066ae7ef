import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import { usageOf } from '../../../coordinator/core/fair_share.js';
import { NOTHING_SPENT } from '../../../coordinator/core/spent.js';
import { DEFAULT_SETTINGS, initialState } from '../../../coordinator/core/state.js';
import { fromStore, toStore } from '../../../coordinator/io/records.js';
import {
  Store,
  StoreQueueFull,
  StoreWriteAbandoned,
  StoreWriteInvalid,
  type Write,
} from '../../../coordinator/io/store.js';
import { EtcdClient, type Transaction } from '../../../shared/etcd/client.js';
import { EtcdOutOfSpace, EtcdTimedOut } from '../../../shared/etcd/errors.js';
import {
  eventKey,
  generationKey,
  jobKey,
  leaderKey,
  operationKey,
  operationsFolder,
  workerKey,
} from '../../../shared/etcd/keys.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';
import { FaultProxy } from '../../shared/etcd/fault_proxy.js';

const log = { info: () => {}, warn: () => {} };
const patience = { timeout: 10_000, interval: 10 };
let etcd: EtcdServer;
let proxy: FaultProxy;
/** Straight to etcd. */
let client: EtcdClient;
/** Through the proxy. */
let proxied: EtcdClient;
let term = 0;
let prefixes = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});

beforeEach(async () => {
  const prefix = `/store${prefixes++}/`;
  proxy = await FaultProxy.start(etcd.port);
  client = new EtcdClient({ endpoints: [etcd.endpoint], prefix, callTimeoutMs: 2000 });
  proxied = new EtcdClient({ endpoints: [proxy.endpoint], prefix, callTimeoutMs: 300 });
  await proxied.get('warm up');
  term = await newTerm();
});

afterEach(async () => {
  client.close();
  proxied.close();
  await proxy.stop();
});

afterAll(() => etcd.stop());

async function newTerm(): Promise<number> {
  await client.delete(leaderKey);
  const key = leaderKey;
  return (await client.transact({ when: [], success: [{ kind: 'put', key, value: '{}' }] })).revision;
}

function putJob(operation: string, value = operation, key = jobKey('j')): Write {
  return { term, operation, puts: [{ key, value }], deletes: [] };
}

async function job(name = 'j'): Promise<string | undefined> {
  return (await client.get(jobKey(name))).entry?.value;
}

test('a write puts and deletes in one revision', async () => {
  const store = new Store({ client, log });
  expect(await store.write(putJob('first', 'x', jobKey('old')))).toBe('stored');
  const puts = [
    { key: jobKey('j'), value: 'job' },
    { key: eventKey('j', 0), value: 'event' },
  ];
  expect(await store.write({ term, operation: 'second', puts, deletes: [jobKey('old')] })).toBe('stored');
  const { entries, revision } = await store.loadAll();
  expect(entries).toEqual(new Map(puts.map(({ key, value }) => [key, value])));
  expect((await client.get(jobKey('j'))).entry?.modRevision).toBe(revision);
  expect((await client.get(eventKey('j', 0))).entry?.modRevision).toBe(revision);
});

test('what users have had survives a change of leader, and an old leader cannot change it', async () => {
  const store = new Store({ client, log });
  const spent = { ...NOTHING_SPENT, queuedSeconds: 7.5 };
  const record = { wallMs: 5, users: [{ user: 'ann', workerSeconds: 12.25 }], jobs: [{ job: 'j', spent }] };
  const write = (operation: string, workerSeconds: number): Write => {
    const users = [{ user: 'ann', workerSeconds }];
    return { term, operation, puts: [toStore({ kind: 'accounts', record: { ...record, users } })], deletes: [] };
  };
  expect(await store.write(write('first', 12.25))).toBe('stored');
  const late = write('late', 0);
  term = await newTerm();
  const next = new Store({ client, log });
  expect(await store.write(late)).toBe('fenced');
  const { accounts } = fromStore((await next.loadAll()).entries);
  expect(accounts).toEqual(record);
  const state = initialState({ ...DEFAULT_SETTINGS, name: 'c2' });
  const records = { jobs: [], generations: [], checkpoints: [], nodes: [], accounts };
  apply(state, { nowMs: 100, wallMs: 5, event: { kind: 'elected', term, ...records } });
  expect(usageOf(state.usages, 'ann', 100)).toBe(12.25);
});

test('a write of an old term is fenced and changes nothing', async () => {
  const store = new Store({ client, log });
  expect(await store.write(putJob('before'))).toBe('stored');
  const old = putJob('after');
  await newTerm();
  expect(await store.write(old)).toBe('fenced');
  await client.delete(leaderKey);
  expect(await store.write({ ...old, operation: 'later', deletes: ['x'] })).toBe('fenced');
  expect(await job()).toBe('before');
  expect((await client.get(operationKey(old.term))).entry?.value).toBe('before');
});

test('a write whose reply was lost is stored once and reported as stored', async () => {
  const store = new Store({ client: proxied, log });
  await store.write(putJob('before'));
  proxy.loseReplies();
  const outcome = store.write(putJob('lost'));
  await vi.waitFor(async () => expect(await job()).toBe('lost'), patience);
  const stored = (await client.get(jobKey('j'))).entry?.modRevision;
  proxy.pass();
  expect(await outcome).toBe('stored');
  expect((await client.get(jobKey('j'))).entry?.modRevision).toBe(stored);
  expect(await store.write(putJob('next'))).toBe('stored');
});

test('a write that was stored before the term ended is reported as stored, although its reply was lost', async () => {
  const store = new Store({ client: proxied, log });
  proxy.loseReplies();
  const outcome = store.write(putJob('lost'));
  await vi.waitFor(async () => expect(await job()).toBe('lost'), patience);
  const oldTerm = term;
  term = await newTerm();
  expect(await new Store({ client, log }).write(putJob('of the new leader'))).toBe('stored');
  proxy.pass();
  expect(await outcome).toBe('stored');
  expect(await job()).toBe('of the new leader');
  expect(await store.write({ ...putJob('again'), term: oldTerm })).toBe('fenced');
});

test('an attempt that reaches etcd after its repetition and the next write changes nothing', async () => {
  const store = new Store({ client: proxied, log });
  await store.write(putJob('before'));
  proxy.holdRequests();
  const outcome = store.write(putJob('late'));
  await delay(150);
  proxy.endHold();
  expect(await outcome).toBe('stored');
  expect(await store.write(putJob('newer'))).toBe('stored');
  const before = (await client.get(jobKey('j'))).revision;
  proxy.deliverHeld();
  await delay(300);
  expect(await client.get(jobKey('j'))).toMatchObject({ entry: { value: 'newer' }, revision: before });
});

test('a late attempt that is the only one is stored when it arrives, as the premise of the test before', async () => {
  const store = new Store({ client: proxied, log, writeDeadlineMs: 250 });
  await store.write(putJob('before'));
  proxy.holdRequests();
  const outcome = store.write(putJob('late'));
  await delay(150);
  proxy.endHold();
  await expect(outcome).rejects.toThrow(EtcdTimedOut);
  expect(await job()).toBe('before');
  proxy.deliverHeld();
  await vi.waitFor(async () => expect(await job()).toBe('late'), patience);
});

test('a write after one whose outcome was never learnt succeeds either way', async () => {
  const store = new Store({ client: proxied, log, writeDeadlineMs: 250 });
  proxy.loseReplies();
  await expect(store.write(putJob('unknown'))).rejects.toMatchObject({ mayHaveHappened: true });
  proxy.pass();
  expect(await job()).toBe('unknown');
  expect(await store.write(putJob('next'))).toBe('stored');
  expect(await job()).toBe('next');
  proxy.loseAll();
  await expect(store.write(putJob('never there'))).rejects.toMatchObject({ mayHaveHappened: true });
  proxy.pass();
  expect(await job()).toBe('next');
  expect(await store.write(putJob('last'))).toBe('stored');
});

test('writes are stored in the order in which they were given', async () => {
  const store = new Store({ client, log });
  const writes = Array.from({ length: 40 }, (_, index) =>
    store.write(putJob(`o${index}`, String(index), eventKey('j', index))),
  );
  expect(new Set(await Promise.all(writes))).toEqual(new Set(['stored']));
  const { entries } = await client.list({ kind: 'prefix', prefix: 'events/' });
  const revisions = entries.map(({ modRevision }) => modRevision);
  expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
  expect(entries.map(({ value }) => value)).toEqual(Array.from({ length: 40 }, (_, index) => String(index)));
});

test('writes behind a failed one are abandoned, so that what is stored is a prefix', async () => {
  const store = new Store({ client: proxied, log, writeDeadlineMs: 250 });
  proxy.loseAll();
  const outcomes = Promise.allSettled(['a', 'b', 'c'].map((operation) => store.write(putJob(operation))));
  const [a, b, c] = await outcomes;
  proxy.pass();
  expect(a).toMatchObject({ reason: expect.any(EtcdTimedOut) });
  expect(b).toMatchObject({ reason: expect.any(StoreWriteAbandoned) });
  expect(c).toMatchObject({ reason: expect.any(StoreWriteAbandoned) });
  expect(await store.write(putJob('d'))).toBe('stored');
});

test('the queue is bounded', async () => {
  const store = new Store({ client, log, maxQueued: 2 });
  const writes = ['a', 'b', 'c'].map((operation) => store.write(putJob(operation)));
  await expect(writes[2]).rejects.toThrow(StoreQueueFull);
  expect(await Promise.all(writes.slice(0, 2))).toEqual(['stored', 'stored']);
});

test('120 operations are one transaction, and what etcd would refuse is refused with the reason', async () => {
  const store = new Store({ client, log });
  const puts = Array.from({ length: 120 }, (_, index) => ({ key: eventKey('j', index), value: 'x' }));
  expect(await store.write({ term, operation: 'most', puts, deletes: [] })).toBe('stored');
  const tooMany = { term, operation: 'more', puts, deletes: [jobKey('j')] };
  await expect(store.write(tooMany)).rejects.toThrow('write more has 121 operations, more than 120');
  await expect(store.write(putJob('big', 'x'.repeat(1_300_000)))).rejects.toThrow(StoreWriteInvalid);
  await expect(store.write({ ...putJob('twice'), deletes: [jobKey('j')] })).rejects.toThrow('has the key jobs/j twice');
  expect(await store.write(putJob('biggest', 'x'.repeat(1_240_000)))).toBe('stored');
});

test('loading reads jobs, generations and events at one revision and nothing else', async () => {
  const store = new Store({ client, log });
  for (let from = 0; from < 300; from += 100) {
    const puts = Array.from({ length: 100 }, (_, index) => ({ key: eventKey('j', from + index), value: 'old' }));
    await store.write({ term, operation: `fill ${from}`, puts, deletes: [] });
  }
  await store.write(putJob('job'));
  await store.write(putJob('generation', '{}', generationKey('j')));
  await client.put(workerKey('w'), '{}');
  // Somebody changes the last page as soon as the first is read.
  class Overtaken extends EtcdClient {
    override async list(...parameters: Parameters<EtcdClient['list']>) {
      const listing = await super.list(...parameters);
      await store.write(putJob(`change ${listing.revision}-${performance.now()}`, 'new', eventKey('j', 299)));
      return listing;
    }
  }
  const overtaken = new Overtaken({
    endpoints: [etcd.endpoint],
    prefix: `/store${prefixes - 1}/`,
    callTimeoutMs: 2000,
  });
  const { entries } = await new Store({ client: overtaken, log }).loadAll();
  expect(entries.size).toBe(302);
  expect(entries.get(eventKey('j', 299))).toBe('old');
  expect(entries.get(jobKey('j'))).toBe('job');
  overtaken.close();
});

test('a compaction while loading makes it begin again', async () => {
  const store = new Store({ client, log });
  await store.write(putJob('job'));
  let compactions = 0;
  class Compacted extends EtcdClient {
    override async list(...parameters: Parameters<EtcdClient['list']>) {
      const listing = await super.list(...parameters);
      if (compactions++ === 0) {
        await store.write(putJob('newer'));
        await etcd.compact();
      }
      return listing;
    }
  }
  const compacted = new Compacted({
    endpoints: [etcd.endpoint],
    prefix: `/store${prefixes - 1}/`,
    callTimeoutMs: 2000,
  });
  expect((await new Store({ client: compacted, log }).loadAll()).entries).toEqual(new Map([[jobKey('j'), 'newer']]));
  compacted.close();
});

test('markers of old terms do not pile up', async () => {
  for (let round = 0; round < 12; round++) {
    await new Store({ client, log }).write(putJob(`round ${round}`));
    term = await newTerm();
  }
  const { entries } = await client.list({ kind: 'prefix', prefix: operationsFolder });
  expect(entries).toHaveLength(8);
  expect(entries.at(-1)?.value).toBe('round 11');
});

test('an etcd out of space acknowledges nothing that was not stored, says so, and works again when there is room', async () => {
  const small = await startEtcd({ quotaBytes: 1_500_000 });
  onTestFinished(() => small.stop());
  const full = new EtcdClient({ endpoints: [small.endpoint], prefix: '/full/', callTimeoutMs: 2000 });
  const fullTerm = (await full.transact({ when: [], success: [{ kind: 'put', key: leaderKey, value: '{}' }] }))
    .revision;
  const store = new Store({ client: full, log });
  const acknowledged: string[] = [];
  let failure: unknown;
  // etcd learns how full it is when it commits, every 100 ms, and a quick machine writes much between two commits.
  const deadline = Date.now() + 10_000;
  for (let index = 0; failure === undefined && Date.now() < deadline; index++) {
    const puts = [{ key: jobKey(`j${index}`), value: 'x'.repeat(100_000) }];
    const outcome = store.write({ term: fullTerm, operation: `fill ${index}`, puts, deletes: [] });
    await outcome.then(
      () => acknowledged.push(jobKey(`j${index}`)),
      (error: unknown) => (failure = error),
    );
  }
  expect(failure).toBeInstanceOf(EtcdOutOfSpace);
  expect(String(failure)).toContain('etcdctl alarm disarm');
  // etcd may apply the very write that goes beyond its quota and answer that it is full: that one is in doubt, no other.
  const refused = jobKey(`j${acknowledged.length}`);
  const stored = [...(await store.loadAll()).entries.keys()];
  expect(stored.filter((key) => key !== refused).sort()).toEqual([...acknowledged].sort());
  await expect(full.grantLease(2)).rejects.toThrow(EtcdOutOfSpace);
  for (const key of stored) await full.delete(key);
  await small.makeRoom();
  const puts = [{ key: jobKey('after'), value: 'x' }];
  expect(await store.write({ term: fullTerm, operation: 'after', puts, deletes: [] })).toBe('stored');
  full.close();
});

test('out of space at a repetition still reports the attempt before it that was stored', async () => {
  let attempts = 0;
  class LateRefusal extends EtcdClient {
    override async transact(transaction: Transaction, timeoutMs?: number) {
      attempts += 1;
      if (attempts === 2) throw new EtcdOutOfSpace('write', 'full');
      const result = await super.transact(transaction, timeoutMs);
      if (attempts === 1) throw new EtcdTimedOut('write', 'lost');
      return result;
    }
  }
  const late = new LateRefusal({ endpoints: [etcd.endpoint], prefix: `/store${prefixes - 1}/`, callTimeoutMs: 500 });
  const store = new Store({ client: late, log });
  expect(await store.write(putJob('stored at first'))).toBe('stored');
  expect(attempts).toBeGreaterThanOrEqual(2);
  expect(await store.write(putJob('next'))).toBe('stored');
  late.close();
});
