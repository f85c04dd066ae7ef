/** Hosts that vanish, links that lose, delay, reorder and damage, and routes that are gone. As root: each process has a host of its own. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FaultCluster } from './fault_cluster.js';
import type { Network } from './network.js';
import { expectCalmEnd } from './outcome.js';
import { JOIN_MS, startRunning } from './scenario.js';
import { until } from './until.js';

const STEPS = 150;
/** 3.5 MB of gradient: at 20 Mbit/s a worker needs a second or two for its share of it. */
const WIDE = { width: 20_000, microbatchMs: 2 };
const NARROW_MEGABITS = 20;

let cluster: FaultCluster;
let network: Network;
beforeAll(async () => {
  ({ cluster, network } = await FaultCluster.startInNetwork({ workers: 3, coordinators: 2 }));
});
afterAll(() => cluster?.stop());

/** Steps that a worker has committed, as it says in its heartbeats. */
async function committedOf(worker: string): Promise<number> {
  return (await cluster.client.nodes()).find((node) => node.worker === worker)?.committed ?? 0;
}

for (const [phase, share] of [
  ['reduce', 0.3],
  ['gather', 0.7],
] as const) {
  it(`row 2: when a worker is killed in the middle of ${phase}, the survivors agree on the step and finish it`, async () => {
    const { job, steps, digest } = await startRunning(cluster, { steps: 60, ...WIDE });
    // w2 receives slowly: computing takes little of a step, pulling the others' parts of its segment the first half of the rest,
    // and pulling their segments the second.
    network.throttle('w2', NARROW_MEGABITS);
    const before = job.committed;
    await job.untilCommitted(before + 3, JOIN_MS);
    const gaps = job.gapsMs().slice(-2);
    const stepMs = Math.min(...gaps.map(({ gapMs }) => gapMs));
    const { computeMs } = job.events('stepCommitted').at(-1) ?? { computeMs: 0 };
    expect(computeMs).toBeLessThan(share * stepMs);
    await delay(share * stepMs);
    const seen = job.heard.length;
    await cluster.signal('w3', 'SIGKILL');
    await job.untilEvent('workerLost', 10_000, undefined, seen);
    const started = await job.untilRoster(['w1', 'w2'], 10_000, seen);
    const recovered = await job.untilEvent('recovered', 20_000, undefined, seen);
    expect(recovered.step).toBe(started.step);
    network.unthrottle('w2');
    await job.untilRoster(cluster.workers, JOIN_MS, seen);
    await expectCalmEnd(job, steps, digest);
  });
}

it('row 3: when a worker is killed right after the first one committed, the one that is behind fetches the reduced gradient', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 60, ...WIDE });
  network.throttle('w2', NARROW_MEGABITS);
  await job.untilCommitted(job.committed + 2, JOIN_MS);
  // The events come from w1, the first of the roster.
  const committed = job.committed;
  await job.untilCommitted(committed + 1, JOIN_MS);
  const seen = job.heard.length;
  await cluster.signal('w3', 'SIGKILL');
  await job.untilEvent('workerLost', 10_000, undefined, seen);
  expect(await committedOf('w2')).toBe(committed);
  const started = await job.untilRoster(['w1', 'w2'], 10_000, seen);
  expect(started.step).toBe(committed + 1);
  network.unthrottle('w2');
  await job.untilRoster(cluster.workers, JOIN_MS, seen);
  await expectCalmEnd(job, steps, digest);
});

it('row 8: a host that vanishes without a FIN is suspected within 2 s, and takes part again when it is back', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: STEPS });
  const seen = job.heard.length;
  network.setLink('w2', 'down');
  const downMs = Date.now();
  const lost = await job.untilEvent('workerLost', 10_000, undefined, seen);
  expect(lost.worker).toBe('w2');
  expect(lost.timeMs - downMs).toBeLessThan(2000);
  await job.untilRoster(['w1', 'w3'], 10_000, seen);
  await job.untilCommitted(job.committed + 10, JOIN_MS);
  const dark = job.heard.length;
  network.setLink('w2', 'up');
  await job.untilRoster(cluster.workers, JOIN_MS, dark);
  await expectCalmEnd(job, steps, digest);
});

it('row 12: a leader that is cut off from etcd steps down, another one leads, and nothing of the old term is acted on', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 300 });
  const leader = await cluster.leader();
  network.cut(leader.name, 'etcd');
  const next = await cluster.untilAnotherLeads(leader, 15_000);
  expect(next.name).not.toBe(leader.name);
  await until(() => cluster.log(leader.name).includes('no longer the leader'), {
    limitMs: 10_000,
    what: 'stepping down',
  });
  const seen = job.heard.length;
  await cluster.signalEngine('w1', 'SIGKILL');
  await job.untilRoster(cluster.workers, JOIN_MS, seen);
  network.join(leader.name, 'etcd');
  await expectCalmEnd(job, steps, digest);
});

it('row 13: of two workers that cannot reach each other one is left out, the job goes on, and both take part when the route is back', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 300 });
  const seen = job.heard.length;
  network.cut('w1', 'w2');
  const lost = await job.untilEvent('workerLost', 20_000, undefined, seen);
  expect(lost.detectedBy).toBe('peer_report');
  expect(['w1', 'w2']).toContain(lost.worker);
  const left = cluster.workers.filter((worker) => worker !== lost.worker);
  const without = await job.untilRoster(left, 10_000, seen);
  // Nor does the one that is left out bring the others to a standstill again and again.
  await delay(15_000);
  expect(job.committed).toBeGreaterThan(without.step + 20);
  const joined = job.heard.length;
  network.join('w1', 'w2');
  await job.untilRoster(cluster.workers, JOIN_MS, joined);
  await expectCalmEnd(job, steps, digest);
});

it('row 15: a job whose submit etcd stored, with the answer lost, is submitted once', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: STEPS });
  const leader = await cluster.leader();
  const before = (await cluster.client.list()).length;
  // Requests arrive and are obeyed; what etcd answers does not.
  network.drop('etcd', leader.name);
  const submitted = cluster.submit({ steps: STEPS, name: 'once', keys: { workers: { max: 1 } } });
  await delay(6000);
  network.undrop('etcd', leader.name);
  const once = await submitted;
  const named = (await cluster.client.list()).filter(({ spec }) => spec.name === 'once');
  expect(named.map((one) => one.job)).toEqual([once.job]);
  expect(await cluster.client.list()).toHaveLength(before + 1);
  await expectCalmEnd(job, steps, digest);
  await cluster.client.cancel(once.job);
});

it('row 14: with a link that loses, delays and reorders, the result is the same, only later', async () => {
  await network.degrade('w2', { lost: 0.01, leastDelayMs: 1, mostDelayMs: 15 });
  const { job, steps, digest } = await startRunning(cluster, { steps: STEPS });
  await expectCalmEnd(job, steps, digest);
});

it('row 28: chunks that are damaged in transit are refused and pulled again', async () => {
  await network.degrade('w3', { flipped: 0.05 });
  const { job, steps, digest } = await startRunning(cluster, { steps: 100, ...WIDE });
  await expectCalmEnd(job, steps, digest);
  const refused = cluster.workers.map((worker) => cluster.log(worker)).join('\n');
  // Of a damaged header the crc, of a damaged payload the hash is wrong.
  expect(refused).toMatch(/frames dropped since the start: .*(crc|hash) [1-9]/);
});
