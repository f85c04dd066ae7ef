import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { type Election, startElection } from '../../../coordinator/io/election.js';
import { Store } from '../../../coordinator/io/store.js';
import { type ConnectEtcdOptions, EtcdClient, type Transaction } from '../../../shared/etcd/client.js';
import { EtcdLeaseLost } from '../../../shared/etcd/errors.js';
import { jobKey, leaderKey } from '../../../shared/etcd/keys.js';
import { readLeader } from '../../../shared/etcd/leader_watch.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';
import { FaultProxy } from '../../shared/etcd/fault_proxy.js';
import { timed } from '../../timed.js';

const ttlSeconds = 2;
const stepDownMs = (ttlSeconds * 1000 * 2) / 3;
const patience = { timeout: 10_000, interval: 5 };
const log = { info: () => {}, warn: () => {} };

interface Happening {
  readonly name: string;
  readonly what: 'elected' | 'deposed';
  readonly term: number;
  readonly reason: string;
  readonly atMs: number;
}

let etcd: EtcdServer;
let proxy: FaultProxy;
/** Straight to etcd. */
let client: EtcdClient;
/** Through the proxy. */
let proxied: EtcdClient;
let happenings: Happening[] = [];
const elections: Election[] = [];
const connectedAs = (endpoint: string): ConnectEtcdOptions => ({
  endpoints: [endpoint],
  prefix: '/election/',
  callTimeoutMs: 500,
});

beforeAll(async () => {
  etcd = await startEtcd();
});

beforeEach(async () => {
  proxy = await FaultProxy.start(etcd.port);
  client = new EtcdClient(connectedAs(etcd.endpoint));
  proxied = new EtcdClient(connectedAs(proxy.endpoint));
  happenings = [];
});

afterEach(async () => {
  await Promise.all(elections.splice(0).map((election) => election.resign()));
  client.close();
  proxied.close();
  await proxy.stop();
});

afterAll(() => etcd.stop());

interface CandidateOptions {
  readonly client?: EtcdClient;
  readonly monotonicNow?: () => number;
  readonly ttlSeconds?: number;
}

function candidate(name: string, options: CandidateOptions = {}): Election {
  let term = 0;
  const note = (what: Happening['what'], reason: string) =>
    happenings.push({ name, what, term, reason, atMs: performance.now() });
  const election = startElection({
    client: options.client ?? client,
    name,
    address: `${name}:1`,
    ttlSeconds: options.ttlSeconds ?? ttlSeconds,
    monotonicNow: options.monotonicNow,
    onElected: (elected) => {
      term = elected;
      note('elected', '');
    },
    onDeposed: (reason) => note('deposed', reason),
    log,
  });
  elections.push(election);
  return election;
}

async function leads(election: Election): Promise<number> {
  await vi.waitFor(() => expect(election.term()).toBeGreaterThan(0), patience);
  return election.term() ?? 0;
}

function first(name: string, what: Happening['what']): Happening | undefined {
  return happenings.find((happening) => happening.name === name && happening.what === what);
}

test('of three candidates exactly one leads, and another takes over as soon as it resigns', async () => {
  const three = ['a', 'b', 'c'].map((name) => candidate(name));
  await vi.waitFor(() => expect(happenings).toHaveLength(1), patience);
  await delay(300);
  expect(happenings).toHaveLength(1);
  const leader = three.find((election) => election.term() !== undefined);
  const term = leader?.term() ?? 0;
  expect(await readLeader(client)).toEqual({ term, name: happenings[0]?.name, address: `${happenings[0]?.name}:1` });
  await leader?.resign();
  await vi.waitFor(() => expect(happenings).toHaveLength(3), { ...patience, timeout: 1000 });
  expect(happenings.map(({ what }) => what)).toEqual(['elected', 'deposed', 'elected']);
  expect(happenings[2]?.term).toBeGreaterThan(term);
});

test('a leader cut off from etcd steps down by itself before another leads, and can write nothing when it is back', async () => {
  const a = candidate('a', { client: proxied });
  const term = await leads(a);
  const b = candidate('b');
  const cutMs = performance.now();
  proxy.loseAll();
  const newTerm = await leads(b);
  const deposed = first('a', 'deposed')?.atMs ?? Number.POSITIVE_INFINITY;
  const elected = first('b', 'elected')?.atMs ?? 0;
  expect(deposed).toBeLessThan(elected);
  expect(deposed - cutMs).toBeLessThan(stepDownMs + 100);
  expect(newTerm).toBeGreaterThan(term);
  proxy.pass();
  const store = new Store({ client: proxied, log });
  const write = { term, operation: 'late', puts: [{ key: jobKey('j'), value: 'old term' }], deletes: [] };
  expect(await store.write(write)).toBe('fenced');
  expect((await client.get(jobKey('j'))).entry).toBeUndefined();
  await delay(500);
  expect(a.term()).toBeUndefined();
});

test('a leader that dies is followed within the TTL and a second', timed, async () => {
  const a = candidate('a', { client: proxied });
  await leads(a);
  const b = candidate('b');
  await delay(300);
  proxy.cut();
  const diedMs = performance.now();
  await leads(b);
  expect(performance.now() - diedMs).toBeLessThan(ttlSeconds * 1000 + 1000);
});

test('a process that was frozen learns from the clock that it leads no more, before any timer runs', async () => {
  let frozenMs = 0;
  const a = candidate('a', { monotonicNow: () => performance.now() + frozenMs });
  const term = await leads(a);
  frozenMs = ttlSeconds * 1000;
  expect(a.term()).toBeUndefined();
  expect(happenings.map(({ what }) => what)).toEqual(['elected', 'deposed']);
  expect(await leads(a)).toBeGreaterThan(term);
});

test('a jump of the wall clock by an hour, either way, changes nothing', async () => {
  const realNow = Date.now;
  const a = candidate('a');
  const term = await leads(a);
  for (const jumpMs of [3_600_000, -3_600_000]) {
    const jumped = vi.spyOn(Date, 'now').mockImplementation(() => realNow() + jumpMs);
    await delay(stepDownMs);
    expect(a.term()).toBe(term);
    jumped.mockRestore();
  }
  await delay(300);
  expect(a.term()).toBe(term);
  expect(happenings).toHaveLength(1);
});

test('a lease revoked from outside deposes the leader within one keepalive', async () => {
  const a = candidate('a');
  const term = await leads(a);
  const lease = (await client.get(leaderKey)).entry?.lease ?? '';
  await client.revokeLease(lease);
  await vi.waitFor(() => expect(first('a', 'deposed')).toBeDefined(), { timeout: stepDownMs / 2, interval: 5 });
  expect(await leads(a)).toBeGreaterThan(term);
});

test('a keepalive that finds no lease deposes the leader even if its watch is dead', async () => {
  class WatchlessClient extends EtcdClient {
    override watch(): { close(): void } {
      return { close: () => {} };
    }
    override keepAlive(): Promise<void> {
      return Promise.reject(new EtcdLeaseLost('keep a lease alive', 'the lease is lost'));
    }
  }
  const watchless = new WatchlessClient(connectedAs(etcd.endpoint));
  const a = candidate('a', { client: watchless });
  await vi.waitFor(() => expect(first('a', 'deposed')?.reason).toBe('the lease was lost'), patience);
  await a.resign();
  watchless.close();
});

test('a leader whose key somebody deleted or took steps down', async () => {
  const a = candidate('a');
  const term = await leads(a);
  await client.delete(leaderKey);
  await vi.waitFor(() => expect(first('a', 'deposed')?.reason).toBe('the leader key was deleted'), patience);
  expect(await leads(a)).toBeGreaterThan(term);
});

test('a campaign whose answer was lost finds its own key and leads once', async () => {
  class DeafClient extends EtcdClient {
    transactions = 0;
    leases = 0;
    override grantLease(seconds: number, timeoutMs?: number) {
      this.leases += 1;
      return super.grantLease(seconds, timeoutMs);
    }
    override transact(transaction: Transaction, timeoutMs?: number) {
      this.transactions += 1;
      if (this.transactions === 1) {
        proxy.loseReplies();
        setTimeout(() => proxy.pass(), 200);
      }
      return super.transact(transaction, timeoutMs);
    }
  }
  const deaf = new DeafClient(connectedAs(proxy.endpoint));
  const a = candidate('a', { client: deaf });
  const term = await leads(a);
  expect(deaf.transactions).toBeGreaterThan(1);
  expect(deaf.leases).toBe(1);
  expect((await client.get(leaderKey)).entry?.createRevision).toBe(term);
  expect(happenings).toHaveLength(1);
  await a.resign();
  deaf.close();
});

test('news of a holder that is gone already do not keep a candidate from leading', timed, async () => {
  class SlowClient extends EtcdClient {
    transactions = 0;
    override async transact(transaction: Transaction, timeoutMs?: number) {
      this.transactions += 1;
      if (this.transactions > 1) return super.transact(transaction, timeoutMs);
      await client.put(leaderKey, JSON.stringify({ name: 'other', address: 'other:1', operation: 'other' }));
      const result = await super.transact(transaction, timeoutMs);
      await client.delete(leaderKey);
      await delay(200);
      return result;
    }
  }
  const slow = new SlowClient(connectedAs(etcd.endpoint));
  const startedMs = performance.now();
  const a = candidate('a', { client: slow });
  await leads(a);
  // Without the order of revisions it would wait for the next resync, half a TTL after the start.
  expect(performance.now() - startedMs).toBeLessThan((ttlSeconds * 1000) / 2 - 100);
  await a.resign();
  slow.close();
});

test('a leader that steps down lets another lead first and campaigns again', async () => {
  const a = candidate('a');
  await leads(a);
  const b = candidate('b');
  await delay(200);
  a.stepDown('fenced');
  expect(a.term()).toBeUndefined();
  expect(first('a', 'deposed')?.reason).toBe('fenced');
  await leads(b);
  // Until a is done with letting others try first.
  await delay(ttlSeconds * 250);
  b.stepDown('fenced');
  await leads(a);
  expect(happenings.map(({ name }) => name).join('')).toBe('aabba');
});

test('a short restart of etcd deposes nobody', async () => {
  const a = candidate('a');
  const term = await leads(a);
  await etcd.restart();
  await delay(ttlSeconds * 1000);
  expect(a.term()).toBe(term);
  expect(happenings).toHaveLength(1);
});

test('after etcd was gone for long one leads again, without waiting for the old lease to expire', async () => {
  const pair = ['a', 'b'].map((name) => candidate(name, { ttlSeconds: 5 }));
  await vi.waitFor(() => expect(happenings).toHaveLength(1), patience);
  await etcd.kill();
  await vi.waitFor(() => expect(happenings).toHaveLength(2), patience);
  await delay(500);
  await etcd.restart();
  const backMs = performance.now();
  await vi.waitFor(() => expect(happenings).toHaveLength(3), patience);
  expect(performance.now() - backMs).toBeLessThan(4000);
  expect(happenings.map(({ what }) => what)).toEqual(['elected', 'deposed', 'elected']);
  expect(pair.filter((election) => election.term() !== undefined)).toHaveLength(1);
});

test('resigning ends within a bound when etcd is gone', timed, async () => {
  const a = candidate('a', { client: proxied });
  await leads(a);
  proxy.loseAll();
  const startedMs = performance.now();
  await a.resign();
  expect(performance.now() - startedMs).toBeLessThan(1500);
  expect(happenings.at(-1)).toMatchObject({ what: 'deposed', reason: 'resigned' });
});
