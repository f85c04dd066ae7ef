/** Jobs that share a cluster of real processes: what is lent is given back, and whoever is more important goes first, without a step lost. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FaultCluster } from '../faults/fault_cluster.js';
import { calmDigest, expectCalmEnd } from '../faults/outcome.js';

const STEPS = 200;
const LIMIT_MS = 60_000;
const SAVED = { minutes: 60 };

let cluster: FaultCluster;
let digest: string;
beforeAll(async () => {
  cluster = await FaultCluster.start({ workers: 2, coordinators: 1 });
  digest = await calmDigest(cluster, { steps: STEPS });
});
afterAll(() => cluster?.stop());

const reasonOf = async (job: string): Promise<string> => (await cluster.client.get(job)).reason;

describe('on two workers', () => {
  it('a job lends one to another, and gets it back', async () => {
    const first = await cluster.submit({ steps: STEPS });
    await first.untilRoster(['w1', 'w2'], LIMIT_MS);
    await first.untilCommitted(5, LIMIT_MS);
    const second = await cluster.submitAs('bob', { steps: STEPS, keys: { workers: { max: 1 } } });
    const released = await first.untilEvent('workerReleased', LIMIT_MS);
    expect(released.reason).toBe(`job ${second.job} waits for it`);
    await second.untilCommitted(5, LIMIT_MS);
    const seen = first.heard.length;
    await expectCalmEnd(second, STEPS, digest);
    await first.untilRoster(['w1', 'w2'], LIMIT_MS, seen);
    await expectCalmEnd(first, STEPS, digest);
  });

  it('a job of higher priority has another one saved and sent away, which then goes on where it was', async () => {
    const low = await cluster.submit({ steps: STEPS, keys: { workers: { min: 2 }, checkpoint: SAVED } });
    await low.untilCommitted(5, LIMIT_MS);
    const high = await cluster.submitAs('bob', { steps: STEPS, keys: { workers: { min: 2 }, priority: 5 } });
    const preempted = await low.untilEvent('jobPreempted', LIMIT_MS);
    expect(preempted.reason).toBe(`sent away for job ${high.job} (priority 5)`);
    const saved = await low.untilEvent('checkpointCommitted', LIMIT_MS);
    await high.untilCommitted(5, LIMIT_MS);
    expect(await reasonOf(low.job)).toMatch(/sent away for job .*; waits for 2 workers, of which 0 are idle/);
    await expectCalmEnd(high, STEPS, digest);
    const again = await low.untilEvent('generationStarted', LIMIT_MS, ({ restoredFrom }) => restoredFrom !== '');
    await expectCalmEnd(low, STEPS, digest);
    // Nothing that was done is done again.
    expect(again.step).toBe(saved.step);
    const redone = low.events('stepCommitted').filter(({ generation }) => generation >= again.generation);
    expect(redone[0]?.step).toBe(saved.step);
  });

  it('a job says what it waits for', async () => {
    const job = await cluster.submit({ steps: STEPS, keys: { needs: { gpus: 1 }, where: { zone: ['a', 'b'] } } });
    expect(await reasonOf(job.job)).toBe(
      'waits for 1 worker, of which 0 are idle; 2 workers: its label zone is not a or b',
    );
    expect(await cluster.client.cancel(job.job)).toMatchObject({ state: 'cancelled' });
  });

  it('a worker that is drained leaves its job and gets no other until it is told to', async () => {
    const job = await cluster.submit({ steps: STEPS });
    await job.untilRoster(['w1', 'w2'], LIMIT_MS);
    await job.untilCommitted(5, LIMIT_MS);
    const seen = job.heard.length;
    expect(await cluster.client.drain('w2', 'a new fan', 30_000)).toMatchObject({ cordoned: 'a new fan' });
    await job.untilRoster(['w1'], LIMIT_MS, seen);
    await job.untilCommitted(job.committed + 20, LIMIT_MS);
    const [, w2] = await cluster.client.nodes();
    expect(w2).toMatchObject({ worker: 'w2', state: 'idle', cordoned: 'a new fan' });
    const before = job.heard.length;
    await cluster.client.uncordon('w2');
    await job.untilRoster(['w1', 'w2'], LIMIT_MS, before);
    await expectCalmEnd(job, STEPS, digest);
  });
});
