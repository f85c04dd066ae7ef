/**
 * The faults that every `npm test` tries, with real processes: one after the other in one job, whose weights are compared at the end.
 * The .slow.ts files have all of them, each with a job of its own (npm run test:faults).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FaultCluster } from './fault_cluster.js';
import { calmDigest, expectCalmEnd } from './outcome.js';
import { isAlive } from './processes.js';
import type { WatchedJob } from './watched_job.js';

const ALL = ['w1', 'w2', 'w3'];
const STEPS = 500;
/** For a new engine to import PyTorch, load the job and heal, on a machine that does much else. */
const JOIN_MS = 90_000;
/** What FAULTS.md allows for a pause, beyond the median step. */
const PAUSE_MS = 1000;

let cluster: FaultCluster;
let digest: string;
let job: WatchedJob;
beforeAll(async () => {
  cluster = await FaultCluster.start({ workers: 3, coordinators: 2 });
  digest = await calmDigest(cluster, { steps: STEPS });
  job = await cluster.submit({ steps: STEPS, microbatchMs: 12, keys: { digest_every: 20 } });
  await job.untilRoster(ALL, JOIN_MS);
  await job.untilCommitted(20, JOIN_MS);
});
afterAll(() => cluster?.stop());

it('row 1: when a worker and its engine are killed while computing, the survivors finish the same step within a second', async () => {
  const seen = job.heard.length;
  await cluster.signal('w2', 'SIGKILL');
  const lost = await job.untilEvent('workerLost', 5000, undefined, seen);
  expect(lost).toMatchObject({ worker: 'w2', detectedBy: 'stream_reset' });
  const started = await job.untilRoster(['w1', 'w3'], 5000, seen);
  const recovered = await job.untilEvent('recovered', 10_000, undefined, seen);
  expect(recovered).toMatchObject({ generation: started.generation, step: started.step });
  expect(recovered.pauseMs).toBeLessThan(PAUSE_MS);
  await job.untilRoster(ALL, JOIN_MS, seen);
  const { name } = await cluster.leader();
  const said = cluster
    .log(name)
    .split('\n')
    .find((line) => line.includes('"worker lost"'));
  expect(JSON.parse(said ?? '{}')).toMatchObject({
    ...{ daemon: 'coordinator', job: job.job, worker: 'w2', step: started.step, generation: started.generation - 1 },
  });
});

it('row 4: when an engine crashes, its daemon lives, a new engine heals and joins, and the others do not wait for it', async () => {
  const seen = job.heard.length;
  const daemon = await cluster.pid('w1');
  await cluster.signalEngine('w1', 'SIGSEGV');
  const lost = await job.untilEvent('workerLost', 5000, undefined, seen);
  expect(lost).toMatchObject({ worker: 'w1', detectedBy: 'engine_exit' });
  expect(lost.reason).toContain('SIGSEGV');
  const recovered = await job.untilEvent('recovered', 10_000, undefined, seen);
  const joined = await job.untilRoster(ALL, JOIN_MS, seen);
  // The others went on while the new engine started.
  expect(joined.step).toBeGreaterThan(recovered.step + 1);
  expect(await cluster.pid('w1')).toBe(daemon);
});

it('row 6 (shortened): a worker that is frozen is dropped, and when it is thawed it heals and takes part again', async () => {
  const seen = job.heard.length;
  const frozen = await cluster.signal('w3', 'SIGSTOP');
  const lost = await job.untilEvent('workerLost', 10_000, undefined, seen);
  expect(lost).toMatchObject({ worker: 'w3', detectedBy: 'heartbeat' });
  await job.untilRoster(['w1', 'w2'], 10_000, seen);
  await delay(1000);
  process.kill(frozen, 'SIGCONT');
  await job.untilRoster(ALL, JOIN_MS, seen);
  expect(await cluster.pid('w3')).toBe(frozen);
});

/** What daemons that still live have printed for the job, in the order in which the leader has it. */
async function printsOfLiving(): Promise<readonly string[]> {
  const prints: string[] = [];
  // The daemon of w2 was killed before, and what it had printed until then only the leader knows.
  for await (const { worker, attempt, number, text } of cluster.client.logs(job.job, false)) {
    if (worker !== 'w2') prints.push(`${worker}#${attempt} ${number} ${text}`);
  }
  return prints;
}

it('row 10: when the leading coordinator is killed, no step is lost, no worker is, no print is, and a standby leads within TTL + 1 s', async () => {
  const printed = await printsOfLiving();
  expect(printed.some((line) => line.startsWith('w1#1 '))).toBe(true);
  expect(printed.some((line) => line.startsWith('w1#2 '))).toBe(true);
  const seen = job.heard.length;
  const leader = await cluster.leader();
  await cluster.signal(leader.name, 'SIGKILL');
  const killedMs = performance.now();
  await cluster.untilAnotherLeads(leader, 20_000);
  // The lease of coordinators is 3 s.
  expect(performance.now() - killedMs).toBeLessThan(4000);
  await job.untilEvent('leaderChanged', 10_000, undefined, seen);
  const since = job.heard.slice(seen).map(({ event }) => event.kind);
  expect(since).not.toContain('workerLost');
  expect(since).not.toContain('generationStarted');
  const kept = await printsOfLiving();
  expect(new Set(kept).size).toBe(kept.length);
  expect(kept).toEqual(expect.arrayContaining([...printed]));
});

it('row 26 (shortened): workers that leave and join again close to each other do not keep the job from going on', async () => {
  const seen = job.heard.length;
  for (const worker of ['w1', 'w2']) {
    await cluster.signalEngine(worker, 'SIGKILL');
    await job.untilEvent('workerLost', 10_000, (event) => event.worker === worker, seen);
  }
  await job.untilRoster(ALL, JOIN_MS, seen);
  await job.untilCommitted(job.committed + 2, JOIN_MS);
});

it('row 34: a worker and a coordinator that are told to stop hand over and exit with status 0', async () => {
  const seen = job.heard.length;
  const leader = await cluster.leader();
  const [engine, worker] = [await cluster.enginePid('w1'), await cluster.signal('w1', 'SIGTERM')];
  const lost = await job.untilEvent('workerLost', 10_000, undefined, seen);
  expect(lost).toMatchObject({ worker: 'w1', detectedBy: 'drain' });
  const coordinator = await cluster.signal(leader.name, 'SIGTERM');
  await cluster.untilAnotherLeads(leader, 10_000);
  await job.untilEvent('leaderChanged', 10_000, undefined, seen);
  for (const [name, pid] of [
    ['w1', worker],
    [leader.name, coordinator],
  ]) {
    const exit = expect.objectContaining({ name, pid, code: 0, signal: null });
    await expect.poll(() => cluster.exits, { timeout: 10_000 }).toContainEqual(exit);
  }
  expect(isAlive(engine)).toBe(false);
});

it('rows 1, 4, 6, 10, 26 and 34: after all of that the weights are those of a run without faults, and no sample was lost or repeated', async () => {
  await expectCalmEnd(job, STEPS, digest);
});

it('row 34: a cluster that is told to stop while it trains exits with status 0 and leaves no process behind', async () => {
  const last = await cluster.submit({ steps: STEPS, keys: { workers: { max: 1 } } });
  await last.untilCommitted(1, JOIN_MS);
  expect(await cluster.stop()).toEqual({ code: 0, left: [] });
});
