/** Coordinators that die, freeze and are told to stop. Their lease is 3 s. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { generationKey } from '../../shared/etcd/keys.js';
import { medianOf } from '../../shared/median.js';
import { FaultCluster } from './fault_cluster.js';
import { expectCalmEnd } from './outcome.js';
import { JOIN_MS, startRunning } from './scenario.js';
import { until } from './until.js';

const TTL_MS = 3000;
const stored = z.object({ term: z.number(), generation: z.number() });

let cluster: FaultCluster;
beforeAll(async () => {
  cluster = await FaultCluster.start({ workers: 3, coordinators: 3 });
});
afterAll(() => cluster?.stop());

/** Term of the generation that etcd holds. */
async function storedTerm(job: string): Promise<number> {
  const { entries } = await cluster.etcd.list({ kind: 'key', key: generationKey(job) });
  return stored.parse(JSON.parse(entries[0]?.value ?? '')).term;
}

it('row 10: when the leading coordinator is killed again and again, no step is lost or slowed down, and a standby leads within TTL + 1 s', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 600, microbatchMs: 15 });
  const stepMs: number[] = [];
  for (let kill = 0; kill < 4; kill++) {
    const leader = await cluster.leader();
    const [seen, from] = [job.heard.length, job.committed];
    await cluster.signal(leader.name, 'SIGKILL');
    const killedMs = performance.now();
    await cluster.untilAnotherLeads(leader, 20_000);
    expect(performance.now() - killedMs).toBeLessThan(TTL_MS + 1000);
    await job.untilEvent('leaderChanged', 10_000, undefined, seen);
    await job.untilCommitted(job.committed + 5, JOIN_MS);
    stepMs.push(
      ...job
        .events('stepCommitted')
        .slice(from)
        .map((event) => event.stepMs),
    );
  }
  await expectCalmEnd(job, steps, digest);
  expect(job.events('workerLost')).toEqual([]);
  expect(job.events('generationStarted')).toHaveLength(1);
  expect(Math.max(...stepMs)).toBeLessThan(3 * medianOf(stepMs));
});

it('row 11: a leader that is frozen for three TTL and thawed leads no more, and changes nothing', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 500, microbatchMs: 15 });
  const leader = await cluster.leader();
  // So that it thaws with something in its hands: the loss of a worker that it has not acted on.
  const frozen = await cluster.signal(leader.name, 'SIGSTOP');
  await cluster.signalEngine('w2', 'SIGKILL');
  const next = await cluster.untilAnotherLeads(leader, 15_000);
  await delay(3 * TTL_MS);
  const seen = job.heard.length;
  process.kill(frozen, 'SIGCONT');
  await until(() => cluster.log(leader.name).includes('no longer the leader'), {
    limitMs: 10_000,
    what: 'stepping down',
  });
  await cluster.signalEngine('w1', 'SIGKILL');
  await job.untilRoster(cluster.workers, JOIN_MS, seen);
  const now = await cluster.leader();
  expect(now.name).toBe(next.name);
  expect(await storedTerm(job.job)).toBe(now.term);
  await expectCalmEnd(job, steps, digest);
});

it('row 34: a leading coordinator that is told to stop hands over at once and exits with status 0', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 200 });
  const leader = await cluster.leader();
  const pid = await cluster.signal(leader.name, 'SIGTERM');
  const toldMs = performance.now();
  await cluster.untilAnotherLeads(leader, 10_000);
  // It gives its lease back, so nobody waits for that to expire.
  expect(performance.now() - toldMs).toBeLessThan(TTL_MS);
  await expectCalmEnd(job, steps, digest);
  expect(cluster.exits).toContainEqual(expect.objectContaining({ name: leader.name, pid, code: 0, signal: null }));
  expect(job.events('workerLost')).toEqual([]);
});
