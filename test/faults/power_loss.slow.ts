/** Everything dies at once, again and again: what is left is on the disk. */
import { afterAll, expect, it } from 'vitest';
import { FaultCluster } from './fault_cluster.js';
import { hurryUp } from './fault_job.js';
import { calmDigest } from './outcome.js';
import { JOIN_MS } from './scenario.js';

const LOSSES = 20;
const STEPS = 1000;
const COORDINATORS = 2;

let cluster: FaultCluster | undefined;
afterAll(() => cluster?.stop());

const workersOf = () => 1 + Math.floor(Math.random() * 5);

it(`row 9: a job whose processes are all killed ${LOSSES} times, etcd included, comes back by itself each time on another number of workers, and ends with the weights of a run without faults`, async () => {
  cluster = await FaultCluster.start({ workers: 4, coordinators: COORDINATORS });
  const { folder } = cluster;
  const digest = await calmDigest(cluster, { steps: STEPS });
  await cluster.untilAllIdle(JOIN_MS);
  const keys = { checkpoint: { every: 10, minutes: 0, keep: 2 } };
  let job = await cluster.submit({ steps: STEPS, microbatchMs: 4, keys });
  await job.untilCommitted(5, JOIN_MS);
  const restored: number[] = [];
  for (let loss = 0; loss < LOSSES; loss++) {
    // At any moment of a step or a save, some steps after it came back.
    await job.untilCommitted(job.committed + 1 + Math.floor(Math.random() * 30), JOIN_MS);
    await cluster.killAll();
    cluster = await FaultCluster.start({ workers: workersOf(), coordinators: COORDINATORS }, folder);
    job = cluster.watch(job);
    const started = await job.untilEvent('generationStarted', JOIN_MS);
    if (started.restoredFrom !== '') restored.push(started.step);
    await job.untilEvent('stepCommitted', JOIN_MS);
  }
  // It went on from checkpoints, and from later and later ones.
  expect(restored.length).toBeGreaterThan(LOSSES / 2);
  expect(restored).toEqual([...restored].sort((left, right) => left - right));
  expect(new Set(restored).size).toBeGreaterThan(LOSSES / 4);
  hurryUp(job.bundle);
  const end = await job.untilEnd(JOIN_MS);
  expect({ state: end.state, reason: end.reason, steps: end.steps }).toEqual({
    state: 'finished',
    reason: '',
    steps: STEPS,
  });
  expect(end.weightsDigest).toBe(digest);
  expect(await job.audit()).toMatchObject({ steps: STEPS, samplesLost: 0, samplesRepeated: 0 });
});
