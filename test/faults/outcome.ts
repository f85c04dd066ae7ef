/** What every test of a fault expects of its job at the end: the weights of a run without faults, and no sample lost or repeated. */
import { expect } from 'vitest';
import type { FaultCluster } from './fault_cluster.js';
import { type FaultJobOptions, hurryUp } from './fault_job.js';
import type { WatchedJob } from './watched_job.js';

const END_MS = 300_000;

/** Of runs without faults in this test file, by what their weights depend on. */
const calmDigests = new Map<string, string>();

/** The weights of the job in a run without faults, on the same cluster. Where they come from is what no fault may change. */
export async function calmDigest(cluster: FaultCluster, options: FaultJobOptions): Promise<string> {
  const { steps, poisoned, width, keys } = options;
  const key = JSON.stringify({ steps, poisoned, width, keys });
  const known = calmDigests.get(key);
  if (known !== undefined) return known;
  const calm = await cluster.submit({
    steps,
    microbatchMs: 0,
    ...(poisoned === undefined ? {} : { poisoned }),
    ...(width === undefined ? {} : { width }),
    // One worker is enough, and quicker to start.
    keys: { ...keys, workers: { max: 1 } },
  });
  const end = await calm.untilEnd(END_MS);
  expect(end, calm.story()).toMatchObject({ state: 'finished', steps });
  calmDigests.set(key, end.weightsDigest);
  return end.weightsDigest;
}

/** Lets the job run to its end and compares. */
export async function expectCalmEnd(job: WatchedJob, steps: number, digest: string, limitMs = END_MS): Promise<void> {
  hurryUp(job.bundle);
  const end = await job.untilEnd(limitMs);
  expect({ state: end.state, reason: end.reason, steps: end.steps }, job.story()).toEqual({
    state: 'finished',
    reason: '',
    steps,
  });
  expect(end.weightsDigest, job.story()).toBe(digest);
  expect(await job.audit()).toMatchObject({ steps, samplesLost: 0, samplesRepeated: 0 });
  // No step was said twice or left out either.
  expect(job.events('stepCommitted').map(({ step }) => step)).toEqual(Array.from({ length: steps }, (_, step) => step));
}
