/** Engines that want more memory than there is. Needs root, for a memory limit that the kernel keeps. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FaultCluster } from './fault_cluster.js';
import { limitMemory } from './memory_limit.js';
import { expectCalmEnd } from './outcome.js';
import { JOIN_MS, startRunning } from './scenario.js';

const STEPS = 150;
const LIMIT_BYTES = 200_000_000;

let cluster: FaultCluster;
beforeAll(async () => {
  cluster = await FaultCluster.start({ workers: 3, coordinators: 1 });
});
afterAll(() => cluster?.stop());

it('row 30: an engine that the kernel kills because there is no memory left dies alone: its daemon lives, and a new engine heals', async () => {
  const options = { steps: STEPS, fault: 'hoard', atStep: 60 } as const;
  const { job, steps, digest } = await startRunning(cluster, options);
  const daemons = await Promise.all(cluster.workers.map((worker) => cluster.pid(worker)));
  const engines = await Promise.all(cluster.workers.map((worker) => cluster.enginePid(worker)));
  const limits = engines.map((engine) => limitMemory(engine, LIMIT_BYTES));
  const lost = await job.untilEvent('workerLost', JOIN_MS);
  expect(lost).toMatchObject({ detectedBy: 'engine_exit', reason: expect.stringContaining('SIGKILL') });
  await job.untilEvent('generationStarted', JOIN_MS, (event) => event.reason.includes('joins'));
  await expectCalmEnd(job, steps, digest);
  expect(await Promise.all(cluster.workers.map((worker) => cluster.pid(worker)))).toEqual(daemons);
  await Promise.all(limits.map((remove) => remove()));
});

it('row 30: a job that cannot fit into memory fails with the reason, and the daemons live', async () => {
  await cluster.untilAllIdle(JOIN_MS);
  const daemons = await Promise.all(cluster.workers.map((worker) => cluster.pid(worker)));
  const job = await cluster.submit({ steps: STEPS, class: 'TooLarge' });
  const end = await job.untilEnd(JOIN_MS);
  expect(end.state).toBe('failed');
  expect(end.reason).toMatch(/memory/i);
  expect(end.traceback).toContain('task.py');
  expect(await Promise.all(cluster.workers.map((worker) => cluster.pid(worker)))).toEqual(daemons);
});
