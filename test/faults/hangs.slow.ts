/** Engines that neither answer nor die. Nothing is shorter than the deadline of 30 s. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FaultCluster } from './fault_cluster.js';
import { expectCalmEnd } from './outcome.js';
import { JOIN_MS, startRunning } from './scenario.js';

const STEPS = 100;

let cluster: FaultCluster;
beforeAll(async () => {
  cluster = await FaultCluster.start({ workers: 3, coordinators: 1 });
});
afterAll(() => cluster?.stop());

for (const fault of ['sleep', 'sleep_with_gil'] as const) {
  const how = fault === 'sleep' ? 'sleeps' : 'sleeps holding the lock of the interpreter';
  it(`row 7: an engine that ${how} is killed at the deadline, and the job goes on`, async () => {
    const { job, steps, digest } = await startRunning(cluster, { steps: STEPS, fault, atStep: 20 });
    const lost = await job.untilEvent('workerLost', 90_000);
    expect(lost).toMatchObject({ detectedBy: 'hang', reason: expect.stringContaining('has not answered compute for') });
    await job.untilEvent('recovered', 10_000);
    await job.untilEvent('generationStarted', JOIN_MS, (event) => event.reason.includes('joins'));
    await expectCalmEnd(job, steps, digest);
    const slowest = Math.max(...job.events('stepCommitted').map((event) => event.stepMs));
    expect(slowest).toBeGreaterThan(29_000);
    expect(slowest).toBeLessThan(45_000);
  });
}
