/** However `lockstep run` ends, it leaves no process, no open port and no file in /dev/shm. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { jobFolder, ownTask } from './job_folder.js';
import { Lockstep, newFolder, TEST_MS } from './run_lockstep.js';

/** A daemon dies with its launcher, and an engine with its daemon; this is for the kernel and a busy machine. */
const DIES_WITHIN_MS = 20_000;

const folder = newFolder();
afterAll(() => rmSync(folder, { recursive: true }));
/** Goes on for an hour if nobody ends it. */
const job = jobFolder(join(folder, 'job'), [ownTask('line')])({
  name: 'long-line',
  task: 'line.py:Line',
  steps: 1_000_000,
  batch: 12,
  microbatches: 4,
  params: { pause: 0.01, helper: true },
});

/** Runs the job until it has committed some steps, and lets `finish` end it. */
async function inTheMiddle(workers: number, finish: (lockstep: Lockstep) => Promise<void>): Promise<void> {
  const lockstep = new Lockstep(['run', job, '--workers', String(workers), '--dir', '{folder}/run', '--json']);
  try {
    const { pids } = await lockstep.ready();
    await lockstep.step(2);
    lockstep.footprint.sample();
    // The launcher, etcd, the coordinator; and of each worker the daemon, its engine, and what the user's code started there.
    expect(lockstep.footprint.alive().length).toBeGreaterThanOrEqual(3 + 3 * workers);
    expect(lockstep.footprint.alive()).toEqual(
      expect.arrayContaining([pids.etcd, ...pids.coordinators, ...Object.values(pids.workers)]),
    );
    // etcd's two, the coordinator's, and one a worker.
    expect(lockstep.footprint.samplePorts().length).toBeGreaterThanOrEqual(3 + workers);
    await finish(lockstep);
  } finally {
    await lockstep.close();
  }
}

it(
  'Ctrl-C in a terminal ends a run with 130 and leaves nothing behind',
  () =>
    inTheMiddle(2, async (lockstep) => {
      lockstep.killGroup('SIGINT');
      expect(await lockstep.end()).toMatchObject({ code: 130, signal: null });
      expect(await lockstep.left()).toEqual([]);
    }),
  TEST_MS,
);

it(
  'SIGTERM ends a run with 130 and leaves nothing behind',
  () =>
    inTheMiddle(1, async (lockstep) => {
      lockstep.kill('SIGTERM');
      expect(await lockstep.end()).toMatchObject({ code: 130, signal: null });
      expect(await lockstep.left()).toEqual([]);
    }),
  TEST_MS,
);

it(
  'SIGKILL of the launcher leaves nothing behind',
  () =>
    inTheMiddle(2, async (lockstep) => {
      lockstep.kill('SIGKILL');
      expect(await lockstep.end()).toMatchObject({ code: null, signal: 'SIGKILL' });
      expect(await lockstep.left(DIES_WITHIN_MS)).toEqual([]);
    }),
  TEST_MS,
);

it(
  'a second Ctrl-C ends a run at once and leaves nothing behind',
  () =>
    inTheMiddle(1, async (lockstep) => {
      lockstep.killGroup('SIGINT');
      lockstep.killGroup('SIGINT');
      expect(await lockstep.end()).toMatchObject({ code: 130, signal: null });
      expect(await lockstep.left(DIES_WITHIN_MS)).toEqual([]);
    }),
  TEST_MS,
);
