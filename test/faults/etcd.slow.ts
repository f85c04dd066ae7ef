/** An etcd that restarts, is gone, is full, forgets leases and forgets revisions. */
import { setTimeout as delay } from 'node:timers/promises';
import { Etcd3 } from 'etcd3';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { FaultCluster } from './fault_cluster.js';
import type { Network } from './network.js';
import { expectCalmEnd } from './outcome.js';
import { JOIN_MS, startRunning } from './scenario.js';

const QUOTA_BYTES = 16 * 1024 * 1024;
const JUNK_BYTES = 512 * 1024;
const GONE_MS = 60_000;

let cluster: FaultCluster;
let network: Network;
let admin: Etcd3;
beforeAll(async () => {
  ({ cluster, network } = await FaultCluster.startInNetwork(
    { workers: 3, coordinators: 2 },
    { etcdQuotaBytes: QUOTA_BYTES },
  ));
  admin = new Etcd3({ hosts: cluster.etcdUrl, defaultCallOptions: () => ({ deadline: Date.now() + 10_000 }) });
});
afterEach(() => network.setLink('etcd', 'up'));
afterAll(async () => {
  admin?.close();
  await cluster?.stop();
});

/** Writes until etcd has no space left. */
async function fill(): Promise<void> {
  for (let key = 0; ; key++) {
    const failure: unknown = await admin
      .put(`junk/${key}`)
      .value(Buffer.alloc(JUNK_BYTES))
      .then(() => undefined)
      .catch((error: unknown) => error);
    if (failure === undefined) continue;
    expect(String(failure)).toMatch(/space/i);
    return;
  }
}

/** What an operator does about it. */
async function makeRoom(): Promise<void> {
  await admin.delete().prefix('junk/');
  await compact();
  await admin.maintenance.defragment();
  const { alarms } = await admin.maintenance.alarm({ action: 'Get' });
  for (const { memberID, alarm } of alarms) await admin.maintenance.alarm({ action: 'Deactivate', memberID, alarm });
}

async function compact(): Promise<void> {
  const { header } = await admin.kv.range({ key: Buffer.from('x') });
  await admin.kv.compact({ revision: header.revision, physical: true });
}

it('row 16: when etcd restarts, training does not pause, and there is a leader and work for newcomers again', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 600, microbatchMs: 15 });
  const [median, from] = [job.medianStepMs, job.committed];
  await cluster.signal('etcd', 'SIGKILL');
  await delay(5000);
  await cluster.leader();
  const seen = job.heard.length;
  await cluster.signalEngine('w2', 'SIGKILL');
  await job.untilEvent('workerLost', JOIN_MS, undefined, seen);
  const to = job.committed;
  await job.untilRoster(cluster.workers, JOIN_MS, seen);
  await expectCalmEnd(job, steps, digest);
  const stepMs = job
    .events('stepCommitted')
    .slice(from, to - 2)
    .map((event) => event.stepMs);
  expect(Math.max(...stepMs)).toBeLessThan(3 * median);
});

it('row 17: while etcd is gone for 60 s training goes on, and a change of membership waits until it is back', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 1000, microbatchMs: 20 });
  network.setLink('etcd', 'down');
  await delay(GONE_MS / 2);
  const [half, applied] = [job.applied, () => job.applied];
  await delay(GONE_MS / 4);
  expect(applied()).toBeGreaterThan(half + 20);
  await cluster.signalEngine('w3', 'SIGKILL');
  await delay(2000);
  const stopped = applied();
  await delay(GONE_MS / 4 - 2000);
  // Without w3 no step can be finished, and without etcd there is no generation without w3.
  expect(applied()).toBeLessThanOrEqual(stopped + 1);
  network.setLink('etcd', 'up');
  await job.untilCommitted(stopped + 10, JOIN_MS);
  await expectCalmEnd(job, steps, digest);
});

it('row 18: when etcd is out of space a submit is refused with that reason, nothing is acknowledged that is not stored, and training goes on', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 800, microbatchMs: 15 });
  const before = (await cluster.client.list()).map((one) => one.job);
  await fill();
  try {
    const applied = job.applied;
    await expect(cluster.submit({ steps: 10, name: 'refused' })).rejects.toThrow(/space/i);
    await delay(3000);
    expect(job.applied).toBeGreaterThan(applied + 10);
  } finally {
    await makeRoom();
  }
  await cluster.leader();
  expect((await cluster.client.list()).map((one) => one.job)).toEqual(before);
  await expectCalmEnd(job, steps, digest);
  const accepted = await cluster.submit({ steps: 10, name: 'accepted' });
  expect(await accepted.untilEnd(JOIN_MS)).toMatchObject({ state: 'finished' });
});

it('row 19: when all leases are revoked at once no process restarts, no engine does, and the job goes on', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 400, microbatchMs: 15 });
  const exits = cluster.exits.length;
  const daemons = await Promise.all([...cluster.workers, ...cluster.coordinators].map((name) => cluster.pid(name)));
  const engines = await Promise.all(cluster.workers.map((worker) => cluster.enginePid(worker)));
  const leader = await cluster.leader();
  const { leases } = await admin.leaseClient.leaseLeases();
  expect(leases.length).toBeGreaterThanOrEqual(6);
  await Promise.all(leases.map(({ ID }) => admin.leaseClient.leaseRevoke({ ID })));
  await cluster.untilAnotherLeads(leader, 10_000);
  await job.untilCommitted(job.committed + 20, JOIN_MS);
  expect(await Promise.all([...cluster.workers, ...cluster.coordinators].map((name) => cluster.pid(name)))).toEqual(
    daemons,
  );
  expect(await Promise.all(cluster.workers.map((worker) => cluster.enginePid(worker)))).toEqual(engines);
  await expectCalmEnd(job, steps, digest);
  expect(cluster.exits).toHaveLength(exits);
  expect(job.events('workerLost')).toEqual([]);
});

it('row 20: who missed changes that are compacted away lists everything anew: a standby leads, and a worker finds the new leader', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 600, microbatchMs: 15 });
  const leader = await cluster.leader();
  const standby = cluster.coordinators.find((name) => name !== leader.name) ?? '';
  const frozen = [await cluster.signal(standby, 'SIGSTOP'), await cluster.signal('w3', 'SIGSTOP')];
  await job.untilRoster(['w1', 'w2'], 10_000);
  // Their watches end with etcd, and what they will ask for next is forgotten.
  await cluster.signal('etcd', 'SIGKILL');
  await delay(3000);
  for (let change = 0; change < 20; change++) await admin.put('lockstep-test/change').value(String(change));
  await compact();
  const seen = job.heard.length;
  for (const pid of frozen) process.kill(pid, 'SIGCONT');
  await job.untilRoster(cluster.workers, JOIN_MS, seen);
  const last = await cluster.leader();
  await cluster.signal(last.name, 'SIGKILL');
  await cluster.untilAnotherLeads(last, 15_000);
  await cluster.signalEngine('w1', 'SIGKILL');
  await job.untilRoster(cluster.workers, JOIN_MS, job.heard.length);
  await expectCalmEnd(job, steps, digest);
});
