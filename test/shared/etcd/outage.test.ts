import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startElection } from '../../../coordinator/io/election.js';
import { Store } from '../../../coordinator/io/store.js';
import { connectEtcd } from '../../../shared/etcd/client.js';
import { coordinatorKey, leaderKey } from '../../../shared/etcd/keys.js';
import { watchLeader } from '../../../shared/etcd/leader_watch.js';
import { register } from '../../../shared/etcd/registration.js';
import { startEtcd } from '../../etcd_server.js';
import { timed } from '../../timed.js';

const ttlSeconds = 2;
const patience = { timeout: 10_000, interval: 10 };
const log = { info: () => {}, warn: () => {} };

test(
  'when etcd is frozen for 10 s and thaws, one leads again, and registrations, watches and writes recover',
  timed,
  async () => {
    const etcd = await startEtcd();
    onTestFinished(() => etcd.stop());
    const client = connectEtcd({ endpoints: [etcd.endpoint], prefix: '/outage/', callTimeoutMs: 500 });
    const elected: number[] = [];
    let deposed = 0;
    const elections = ['a', 'b'].map((name) =>
      startElection({
        client,
        name,
        address: `${name}:1`,
        ttlSeconds,
        onElected: (term) => elected.push(term),
        onDeposed: () => deposed++,
        log,
      }),
    );
    await vi.waitFor(() => expect(elected).toHaveLength(1), patience);
    const key = coordinatorKey('a');
    const registration = register({ client, key, value: '1', ttlSeconds, onLost: () => {}, log });
    await registration.registered;
    let watched: number | undefined;
    const onLeader = (leader: { term: number } | undefined) => {
      watched = leader?.term;
    };
    const watch = watchLeader({ client, onLeader, log });
    etcd.freeze();
    await delay(10_000);
    expect([elected.length, deposed]).toEqual([1, 1]);
    expect(elections.map((election) => election.term())).toEqual([undefined, undefined]);
    etcd.thaw();
    await vi.waitFor(() => expect(elected).toHaveLength(2), patience);
    const term = elected[1] ?? 0;
    expect(term).toBeGreaterThan(elected[0] ?? 0);
    await vi.waitFor(() => expect(watched).toBe(term), patience);
    await vi.waitFor(async () => expect((await client.get(key)).entry?.value).toBe('1'), patience);
    const store = new Store({ client, log });
    expect(await store.write({ term, operation: 'after', puts: [], deletes: [] })).toBe('stored');
    expect((await client.get(leaderKey)).entry?.createRevision).toBe(term);
    watch.close();
    await Promise.all([...elections.map((election) => election.resign()), registration.close()]);
    client.close();
  },
);
