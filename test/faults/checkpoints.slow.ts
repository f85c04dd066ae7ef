/** Checkpoints of real clusters, on disks that are full and on files that were changed. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { JobEvent } from '../../shared/wire/jobs.js';
import { FaultCluster } from './fault_cluster.js';
import { hurryUp } from './fault_job.js';
import { calmDigest } from './outcome.js';
import { JOIN_MS } from './scenario.js';
import { until } from './until.js';
import type { WatchedJob } from './watched_job.js';

const STEPS = 120;
const SIZE = { workers: 3, coordinators: 1 };
const EVERY = 10;
const keys = { checkpoint: { every: EVERY, minutes: 0, keep: 3 }, digest_every: 5 };

let cluster: FaultCluster | undefined;
const mounts: string[] = [];
afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
  for (const mount of mounts.splice(0)) {
    execFileSync('umount', ['--lazy', mount]);
    rmdirSync(mount);
  }
});

/** A cluster, the weights of a run without faults, and the same job with checkpoints. */
async function startSaving(checkpoints?: string) {
  cluster = await FaultCluster.start(SIZE);
  const digest = await calmDigest(cluster, { steps: STEPS });
  await cluster.untilAllIdle(JOIN_MS);
  const job = await cluster.submit({ steps: STEPS, microbatchMs: 10, keys }, checkpoints);
  return { cluster, digest, job };
}

async function expectEnd(job: WatchedJob, digest: string): Promise<void> {
  hurryUp(job.bundle);
  const end = await job.untilEnd(JOIN_MS);
  expect({ state: end.state, reason: end.reason, steps: end.steps }, job.story()).toEqual({
    state: 'finished',
    reason: '',
    steps: STEPS,
  });
  expect(end.weightsDigest, job.story()).toBe(digest);
  expect(await job.audit()).toMatchObject({ steps: STEPS, samplesLost: 0, samplesRepeated: 0 });
}

async function untilSaved(
  job: WatchedJob,
  count: number,
): Promise<readonly Extract<JobEvent, { path: string; bytes: number }>[]> {
  return until(
    () => {
      const saved = job.events('checkpointCommitted');
      return saved.length >= count && saved;
    },
    { limitMs: JOIN_MS, what: `${count} checkpoints` },
  );
}

/** The workers alone: coordinator and etcd go on. */
async function killWorkers(cluster: FaultCluster): Promise<void> {
  await Promise.all(cluster.workers.map((worker) => cluster.signal(worker, 'SIGKILL')));
}

it('row 9: when all workers die the job waits for them and goes on from the newest checkpoint', async () => {
  const { cluster, digest, job } = await startSaving();
  const saved = await untilSaved(job, 3);
  const seen = job.heard.length;
  await killWorkers(cluster);
  const started = await job.untilEvent('generationStarted', JOIN_MS, ({ restoredFrom }) => restoredFrom !== '', seen);
  expect(started.step).toBeGreaterThanOrEqual(saved.at(-1)?.step ?? 0);
  expect(started.reason).toContain('restores the checkpoint');
  await expectEnd(job, digest);
});

it('row 9: a worker that is alive is asked before any checkpoint is read', async () => {
  const { cluster, digest, job } = await startSaving();
  await untilSaved(job, 2);
  const seen = job.heard.length;
  await Promise.all(['w1', 'w2'].map((worker) => cluster.signal(worker, 'SIGKILL')));
  await job.untilRoster(cluster.workers, JOIN_MS, seen);
  expect(job.events('generationStarted').map(({ restoredFrom }) => restoredFrom)).not.toContainEqual(
    expect.stringMatching(/./),
  );
  await expectEnd(job, digest);
});

it('row 23: a save to a disk that is full fails and says so, and training goes on', async () => {
  const small = mkdtempSync(join(tmpdir(), 'lockstep-small-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small]);
  mounts.push(small);
  writeFileSync(join(small, 'filler'), Buffer.alloc(56_000));
  const { digest, job } = await startSaving(small);
  const failed = await job.untilEvent('checkpointFailed', JOIN_MS);
  expect(failed.error).toMatch(/no space left|ENOSPC/i);
  expect(failed.error).toContain(small);
  await expectEnd(job, digest);
  expect(job.events('workerLost')).toEqual([]);
  expect(job.events('checkpointCommitted')).toEqual([]);
});

function shardOf(path: string): string {
  const name = readdirSync(path).find((one) => one.endsWith('.safetensors'));
  if (name === undefined) throw new Error(`${path} has no shard`);
  return join(path, name);
}

const DAMAGES: readonly (readonly [string, (path: string, older: string) => void])[] = [
  ['was cut short', (path) => truncateSync(shardOf(path), statSync(shardOf(path)).size - 100)],
  [
    'has one flipped bit',
    (path) => {
      const bytes = readFileSync(shardOf(path));
      bytes[bytes.length - 500] = (bytes[bytes.length - 500] ?? 0) ^ 1;
      writeFileSync(shardOf(path), bytes);
    },
  ],
  [
    'has the manifest of another one',
    (path, older) => writeFileSync(join(path, 'manifest.json'), readFileSync(join(older, 'manifest.json'))),
  ],
];

it.each(DAMAGES)(
  'row 24: a newest checkpoint that %s is found, reported, and the next older one is used',
  async (_, damage) => {
    const { cluster, digest, job } = await startSaving();
    const saved = await untilSaved(job, 3);
    const [older, newest] = saved.slice(-2);
    if (older === undefined || newest === undefined) throw new Error('there are too few checkpoints');
    const { folder } = cluster;
    await cluster.killAll();
    // Another one may have been saved meanwhile.
    const all = readdirSync(join(folder, 'checkpoints', job.job))
      .filter((name) => name.startsWith('step-'))
      .sort();
    const [before, last] = all.slice(-2).map((name) => join(folder, 'checkpoints', job.job, name));
    damage(last ?? '', before ?? '');
    const again = await FaultCluster.start(SIZE, folder);
    const back = again.watch(job);
    try {
      const refused = await back.untilEvent('checkpointRefused', JOIN_MS);
      expect(refused).toMatchObject({ path: last, damaged: true });
      const started = await back.untilEvent(
        'generationStarted',
        JOIN_MS,
        ({ restoredFrom }) => restoredFrom === before,
      );
      expect(started.step).toBeLessThan(refused.step);
      await expectEnd(back, digest);
      const listed = await again.client.checkpoints(job.job);
      expect(listed.find(({ path }) => path === last)?.damage ?? 'retired').toMatch(/\w/);
    } finally {
      await again.stop();
    }
  },
);

it('row 34: a cluster that is told to stop saves the state of its job, and goes on from exactly there', async () => {
  const { cluster, digest, job } = await startSaving();
  await job.untilCommitted(EVERY + 5, JOIN_MS);
  const { folder } = cluster;
  const processes = await Promise.all([...cluster.workers, ...cluster.coordinators].map((name) => cluster.pid(name)));
  for (const pid of processes) process.kill(pid, 'SIGTERM');
  const saved = await job.untilEvent('checkpointCommitted', JOIN_MS, ({ step }) => step % EVERY !== 0);
  await cluster.killAll();
  const again = await FaultCluster.start(SIZE, folder);
  try {
    const back = again.watch(job);
    const started = await back.untilEvent('generationStarted', JOIN_MS);
    expect(started).toMatchObject({ step: saved.step, restoredFrom: saved.path });
    await expectEnd(back, digest);
  } finally {
    await again.stop();
  }
});

it('a job that was cancelled with a checkpoint goes on from there when it is resumed, and ends with the same weights', async () => {
  const { cluster, digest, job } = await startSaving();
  await job.untilCommitted(EVERY + 5, JOIN_MS);
  const cancelled = await cluster.client.cancel(job.job, true);
  expect(cancelled).toMatchObject({ state: 'cancelled' });
  const [newest] = (await cluster.client.checkpoints(job.job)).slice(-1);
  const resumed = cluster.watch({
    job: await cluster.client.resume({ operationId: 'again', job: job.job }),
    bundle: job.bundle,
  });
  const started = await resumed.untilEvent('generationStarted', JOIN_MS);
  expect(started).toMatchObject({ step: newest?.step, restoredFrom: newest?.path });
  await expectEnd(resumed, digest);
});
