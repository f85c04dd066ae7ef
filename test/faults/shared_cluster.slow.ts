/** Twelve jobs of three users with priorities share eight workers, of which some are killed all the time: each ends as it would alone. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Random } from '../simulator/random.js';
import { FaultCluster } from './fault_cluster.js';
import { calmDigest, expectCalmEnd } from './outcome.js';
import { JOIN_MS } from './scenario.js';

const USERS = ['ann', 'bob', 'cleo'];
const JOBS = 12;
const STEPS = 120;
const KILL_EVERY_MS = 4000;
const END_MS = 540_000;

let cluster: FaultCluster;
beforeAll(async () => {
  cluster = await FaultCluster.start({ workers: 8, coordinators: 3 });
});
afterAll(() => cluster?.stop());

it('twelve jobs of three users finish with the digests of their solo runs while workers are killed at random', async () => {
  const digest = await calmDigest(cluster, { steps: STEPS });
  await cluster.untilAllIdle(JOIN_MS);
  const random = new Random(1);
  const jobs = [];
  for (let index = 0; index < JOBS; index++) {
    const keys = {
      workers: { min: random.whole(1, 3) },
      priority: random.whole(-1, 1),
      checkpoint: { minutes: 60 },
    };
    jobs.push(await cluster.submitAs(USERS[index % 3] ?? '', { steps: STEPS, name: `job${index}`, keys }));
  }
  const over = new AbortController();
  let kills = 0;
  const killing = (async () => {
    while (!over.signal.aborted) {
      await delay(KILL_EVERY_MS, undefined, { signal: over.signal }).catch(() => undefined);
      if (over.signal.aborted) return;
      await cluster.signal(random.pick(cluster.workers), 'SIGKILL');
      kills += 1;
    }
  })();
  await Promise.all(jobs.map((job) => expectCalmEnd(job, STEPS, digest, END_MS)));
  over.abort();
  await killing;
  expect(kills).toBeGreaterThan(5);
  const preempted = jobs.reduce((sum, job) => sum + job.events('jobPreempted').length, 0);
  const released = jobs.reduce((sum, job) => sum + job.events('workerReleased').length, 0);
  process.stdout.write(
    `${JOBS} jobs, ${kills} workers killed, ${preempted} jobs sent away, ${released} workers taken back\n`,
  );
});
