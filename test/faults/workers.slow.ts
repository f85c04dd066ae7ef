/** Workers and engines that die, freeze, leave, are slow or are wrong. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { medianOf } from '../../shared/median.js';
import { FaultCluster } from './fault_cluster.js';
import { hurryUp } from './fault_job.js';
import { expectCalmEnd } from './outcome.js';
import { JOIN_MS, startRunning } from './scenario.js';

const STEPS = 150;
const PAUSE_MS = 1000;
const LEASE_MS = 10_000;

let cluster: FaultCluster;
beforeAll(async () => {
  cluster = await FaultCluster.start({ workers: 3, coordinators: 2 });
});
afterAll(() => cluster?.stop());

it('row 1: when a worker and its engine are killed at any moment of a step, the survivors finish that step within a second', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 1200, microbatchMs: 10 });
  const pauses: number[] = [];
  for (let kill = 0; kill < 8; kill++) {
    const seen = job.heard.length;
    const victim = cluster.workers[kill % 3] ?? '';
    // A step takes about 50 ms.
    await delay(Math.random() * 100);
    await cluster.signal(victim, 'SIGKILL');
    const lost = await job.untilEvent('workerLost', 10_000, undefined, seen);
    expect(lost).toMatchObject({ worker: victim, detectedBy: 'stream_reset' });
    const started = await job.untilEvent('generationStarted', 10_000, undefined, seen);
    const recovered = await job.untilEvent('recovered', 10_000, undefined, seen);
    expect(recovered).toMatchObject({ generation: started.generation, step: started.step });
    pauses.push(recovered.pauseMs);
    await job.untilRoster(cluster.workers, JOIN_MS, seen);
  }
  expect(Math.max(...pauses)).toBeLessThan(PAUSE_MS);
  expect(medianOf(pauses)).toBeLessThan(PAUSE_MS / 2);
  await expectCalmEnd(job, steps, digest);
});

it('row 4: when an engine crashes in the middle of a step, its daemon lives, a new engine heals, and the others do not wait for it', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: STEPS, fault: 'segv', atStep: 20 });
  const daemons = await Promise.all(cluster.workers.map((worker) => cluster.pid(worker)));
  const lost = await job.untilEvent('workerLost', JOIN_MS);
  expect(lost).toMatchObject({ detectedBy: 'engine_exit' });
  expect(lost.reason).toContain('SIGSEGV');
  const recovered = await job.untilEvent('recovered', 10_000);
  const joined = await job.untilEvent('generationStarted', JOIN_MS, (event) => event.reason.includes('joins'));
  expect(joined.step).toBeGreaterThan(recovered.step + 1);
  await expectCalmEnd(job, steps, digest);
  expect(await Promise.all(cluster.workers.map((worker) => cluster.pid(worker)))).toEqual(daemons);
});

it('row 5: an engine that exits with status 0 in the middle of a job has failed, and the job goes on without it', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: STEPS, fault: 'exit_0', atStep: 20 });
  const lost = await job.untilEvent('workerLost', JOIN_MS);
  expect(lost).toMatchObject({ detectedBy: 'engine_exit', reason: expect.stringContaining('exit status 0') });
  await job.untilEvent('generationStarted', JOIN_MS, (event) => event.reason.includes('joins'));
  await expectCalmEnd(job, steps, digest);
});

it('row 6: a worker that is frozen for three lease times is dropped, and when it is thawed it is refused, heals and takes part', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 500, microbatchMs: 20 });
  const seen = job.heard.length;
  const frozen = await cluster.signal('w3', 'SIGSTOP');
  expect(await job.untilEvent('workerLost', 10_000)).toMatchObject({ worker: 'w3', detectedBy: 'heartbeat' });
  const without = await job.untilRoster(['w1', 'w2'], 10_000);
  await delay(3 * LEASE_MS);
  const thawed = job.heard.length;
  process.kill(frozen, 'SIGCONT');
  const joined = await job.untilRoster(cluster.workers, JOIN_MS, thawed);
  expect(joined.generation).toBeGreaterThan(without.generation);
  expect(joined.step).toBeGreaterThan(without.step);
  expect(thawed).toBeGreaterThan(seen + 10);
  await expectCalmEnd(job, steps, digest);
  expect(await cluster.pid('w3')).toBe(frozen);
});

it('row 26: workers leave and join 100 times, and the weights stay the same', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 1500, microbatchMs: 12 });
  const changes = () => job.events('generationStarted').length - 1;
  for (let turn = 0; changes() < 100; turn++) {
    const seen = job.heard.length;
    const victim = cluster.workers[turn % 3] ?? '';
    if (turn % 2 === 0) await cluster.signalEngine(victim, 'SIGKILL');
    else await cluster.signal(victim, turn % 4 === 1 ? 'SIGKILL' : 'SIGTERM');
    await job.untilEvent('workerLost', 10_000, (event) => event.worker === victim, seen);
    await job.untilRoster(cluster.workers, JOIN_MS, seen);
  }
  await expectCalmEnd(job, steps, digest);
});

it('row 27: the block of a worker that is ten times slower shrinks, and the weights stay the same', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 300, fault: 'slow', atStep: 10 });
  const changed = await job.untilEvent('generationStarted', JOIN_MS, (event) => event.reason.includes('is slow'));
  await job.untilCommitted(changed.step + 20, JOIN_MS);
  const committed = job.events('stepCommitted');
  const stepMs = (from: number, to: number) => medianOf(committed.slice(from, to).map((event) => event.stepMs));
  expect(stepMs(changed.step + 3, changed.step + 20)).toBeLessThan(stepMs(15, changed.step) / 1.5);
  await expectCalmEnd(job, steps, digest);
});

it('row 29: a worker whose parameters have changed by one bit is found at the next comparison, and heals', async () => {
  const keys = { digest_every: 1 };
  const { job, steps, digest } = await startRunning(cluster, { steps: STEPS, fault: 'flip_bit', atStep: 20, keys });
  const lost = await job.untilEvent('workerLost', JOIN_MS);
  expect(lost).toMatchObject({ detectedBy: 'digest', reason: expect.stringContaining('after step') });
  await job.untilEvent('generationStarted', JOIN_MS, (event) => event.reason.includes(`${lost.worker} joins`));
  await expectCalmEnd(job, steps, digest);
});

it('row 29: with two workers, of whom one has changed by one bit, the job stops and says so', async () => {
  await cluster.untilAllIdle(JOIN_MS);
  const keys = { digest_every: 1, workers: { min: 2, max: 2 } };
  const job = await cluster.submit({ steps: STEPS, fault: 'flip_bit', atStep: 20, keys });
  const end = await job.untilEnd(JOIN_MS);
  expect(end.state).toBe('failed');
  expect(end.reason).toMatch(/states differ after step \d+ and there is no majority \(w\d: \w+; w\d: \w+\)/);
});

it('row 31: a job whose engine crashes at every start fails after some tries that are further and further apart, and another job is not harmed', async () => {
  const half = { workers: { max: 1 } };
  const { job, steps, digest } = await startRunningOne();
  const hopeless = await cluster.submit({ steps: STEPS, name: 'hopeless', class: 'CrashesAtStart', keys: half });
  const beganMs = performance.now();
  const end = await hopeless.untilEnd(JOIN_MS);
  expect(end.state).toBe('failed');
  expect(end.reason).toMatch(/crashed \d+ times without a step/);
  // 0.5 s, then twice as long each time.
  expect(performance.now() - beganMs).toBeGreaterThan(5000);
  expect(job.events('workerLost')).toEqual([]);
  await expectCalmEnd(job, steps, digest);
});

async function startRunningOne() {
  const keys = { workers: { max: 1 } };
  await cluster.untilAllIdle(JOIN_MS);
  const calm = await cluster.submit({ steps: STEPS, microbatchMs: 0, keys });
  const { weightsDigest: digest } = await calm.untilEnd(JOIN_MS);
  const job = await cluster.submit({ steps: STEPS, microbatchMs: 10, keys });
  await job.untilCommitted(1, JOIN_MS);
  return { job, steps: STEPS, digest };
}

it('row 31: a job whose task raises at every start fails at once, with the traceback', async () => {
  await cluster.untilAllIdle(JOIN_MS);
  const job = await cluster.submit({ steps: STEPS, class: 'RaisesAtStart' });
  const end = await job.untilEnd(JOIN_MS);
  expect(end).toMatchObject({ state: 'failed', reason: expect.stringContaining('there is no such model') });
  expect(end.traceback).toContain('task.py');
});

it('row 34: workers that are told to stop one after the other hand over, exit with status 0 and leave no engine behind', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 300 });
  for (const worker of cluster.workers) {
    const seen = job.heard.length;
    const pid = await cluster.signal(worker, 'SIGTERM');
    const lost = await job.untilEvent('workerLost', 10_000, undefined, seen);
    expect(lost).toMatchObject({ worker, detectedBy: 'drain' });
    await job.untilRoster(cluster.workers, JOIN_MS, seen);
    expect(cluster.exits).toContainEqual(expect.objectContaining({ name: worker, pid, code: 0, signal: null }));
  }
  await expectCalmEnd(job, steps, digest);
});

it('row 35: a step whose gradient is not a number is skipped by every worker, counted and reported, when the job says skip', async () => {
  const keys = { on_nonfinite: 'skip', digest_every: 1 };
  const { job, steps, digest } = await startRunning(cluster, { steps: 120, poisoned: 100, keys });
  await cluster.signal('w2', 'SIGKILL');
  await job.untilRoster(cluster.workers, JOIN_MS, job.heard.length);
  await expectCalmEnd(job, steps, digest);
  // The data set has 50 batches, so the sample is met at least twice.
  const skipped = job.events('stepCommitted').filter((event) => event.skipped);
  expect(skipped.length).toBeGreaterThanOrEqual(2);
  expect(skipped.length).toBeLessThanOrEqual(3);
});

it('row 35: a gradient that is not a number ends the job and names the parameter when the job says fail', async () => {
  await cluster.untilAllIdle(JOIN_MS);
  const job = await cluster.submit({ steps: 120, poisoned: 100, keys: { on_nonfinite: 'fail' } });
  hurryUp(job.bundle);
  const end = await job.untilEnd(JOIN_MS);
  expect(end.state).toBe('failed');
  expect(end.reason).toMatch(/the gradient of parameter \S+ is not finite at step \d+/);
});
