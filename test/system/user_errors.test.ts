/** Mistakes in a task: the job fails in seconds with one line that names the method, the user's traceback, and nothing left behind. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, startCluster, submit, watchToEnd } from './cluster.js';
import { jobFolder, ownTask } from './job_folder.js';
import { newFolder, runToEnd, TEST_MS } from './run_lockstep.js';

/** Far more than the few seconds that it takes, most of them the import of PyTorch; a job that waits for a deadline takes longer. */
const FAILS_WITHIN_MS = 60_000;

const folder = newFolder();
afterAll(() => rmSync(folder, { recursive: true }));
const writeJob = jobFolder(join(folder, 'job'), [ownTask('faulty')]);

function jobWith(mistake: string, workers: number): string {
  return writeJob({
    name: mistake.replaceAll(/\W+/g, '-').replaceAll('_', ''),
    task: 'faulty.py:Faulty',
    steps: 3,
    batch: 12,
    microbatches: 4,
    workers: { min: workers, max: workers },
    params: { mistake },
  });
}

interface Row {
  readonly mistake: string;
  readonly says: RegExp;
  /** In the user's traceback; none where no code of the user's raised anything. */
  readonly traceback?: RegExp;
}

const raised = (method: string): RegExp => new RegExp(`\\.perhaps\\("${method}"\\)[^]*Mistake: in ${method}`);
const rows: readonly Row[] = [
  {
    mistake: 'model',
    says: /^model failed on w\d: model\(\) raised faulty\.Mistake: in model$/,
    traceback: raised('model'),
  },
  {
    mistake: 'dataset',
    says: /^dataset failed on w\d: dataset\(\) raised faulty\.Mistake: in dataset$/,
    traceback: raised('dataset'),
  },
  {
    mistake: '__getitem__',
    says: /^dataset failed on w\d: dataset\(\)\[\d+\] raised faulty\.Mistake: in __getitem__$/,
    traceback: raised('__getitem__'),
  },
  {
    mistake: 'optimizer',
    says: /^optimizer failed on w\d: optimizer\(\) raised faulty\.Mistake: in optimizer$/,
    traceback: raised('optimizer'),
  },
  { mistake: 'lr', says: /^lr failed on w\d: lr\(\) raised faulty\.Mistake: in lr$/, traceback: raised('lr') },
  {
    mistake: 'evaluate',
    says: /^evaluate failed on w\d: evaluate\(\) raised faulty\.Mistake: in evaluate$/,
    traceback: raised('evaluate'),
  },
  {
    mistake: 'exit in loss',
    says: /^loss failed on w\d: loss\(\) called exit\(3\); a task must return, not exit$/,
    traceback: /sys\.exit\(3\)/,
  },
  { mistake: 'exit in model', says: /^model failed on w\d: model\(\) called exit\(3\)/, traceback: /sys\.exit\(3\)/ },
  {
    mistake: 'no scalar',
    says: /^loss failed on w\d: what loss\(\) returned has shape \(3, 1\), not a single number$/,
  },
  { mistake: 'no parameters', says: /^model failed on w\d: model\(\) returned a module without parameters$/ },
];

describe('in one cluster', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster(2);
  }, TEST_MS);
  afterAll(async () => {
    await cluster?.lockstep.close();
  });

  it.concurrent.each(rows)(
    'a task with the mistake $mistake fails its job with the reason and the traceback',
    async (row) => {
      const { mistake, says, traceback } = row;
      const { end, finished } = await watchToEnd(cluster, await submit(cluster, jobWith(mistake, 1), mistake));
      expect(end.code).toBe(1);
      expect(finished.state).toBe('failed');
      expect(finished.reason).toMatch(says);
      if (traceback === undefined) expect(finished.traceback).toBe('');
      else expect(finished.traceback).toMatch(traceback);
      // The user's own code and nothing above it.
      expect(finished.traceback).not.toMatch(/lockstep\/(server|replica|compute|apply)\.py/);
    },
    TEST_MS,
  );

  it(
    'a task that prints bytes which are no text trains all the same, and its lines are kept',
    async () => {
      const job = await submit(cluster, jobWith('prints binary', 1), 'binary');
      const { end, finished } = await watchToEnd(cluster, job);
      expect(end.code).toBe(0);
      expect(finished.state).toBe('finished');
      const logs = await runToEnd(['logs', job, '--json', '--server', cluster.api]);
      expect(logs.end.code).toBe(0);
      expect(logs.end.stdout).toContain('after the bytes');
    },
    TEST_MS,
  );

  it(
    'a process that a task left behind in a session of its own is gone soon after the job',
    async () => {
      const job = await submit(cluster, jobWith('leaves a process', 1), 'process');
      const { finished } = await watchToEnd(cluster, job);
      expect(finished.state).toBe('finished');
      const logs = await runToEnd(['logs', job, '--json', '--server', cluster.api]);
      const left = [...logs.end.stdout.matchAll(/left process (\d+)/g)].map(([, pid]) => Number(pid));
      expect(left.length).toBeGreaterThan(0);
      await cluster.lockstep.until('the end of what the task started', () => {
        cluster.lockstep.footprint.sample();
        return cluster.lockstep.footprint.alive().some((pid) => left.includes(pid)) ? undefined : true;
      });
    },
    TEST_MS,
  );

  it(
    'the cluster is as before, and its end leaves nothing behind',
    async () => {
      const { workers, lockstep } = cluster;
      for (const pid of workers.values()) expect(lockstep.footprint.alive()).toContain(pid);
      lockstep.kill('SIGTERM');
      await lockstep.end();
      expect(await lockstep.left()).toEqual([]);
    },
    TEST_MS,
  );
});

it(
  'lockstep run of a task that raises ends with 1, one line for the reason, the traceback, and nothing left behind',
  async () => {
    const job = jobWith('loss', 2);
    const { end, left } = await runToEnd(['run', job, '--workers', '2', '--dir', '{folder}/run']);
    expect(end.code).toBe(1);
    expect(end.tookMs).toBeLessThan(FAILS_WITHIN_MS);
    expect(end.stdout).toMatch(/^failed after 0 steps: loss failed on w\d: loss\(\) raised faulty\.Mistake: in loss$/m);
    expect(end.stdout).toMatch(raised('loss'));
    expect(end.stderr).toBe('');
    expect(left).toEqual([]);
  },
  TEST_MS,
);

it(
  'lockstep run of a task that leaves processes behind leaves none behind itself',
  async () => {
    const { end, left } = await runToEnd([
      'run',
      jobWith('leaves a process', 1),
      '--workers',
      '1',
      '--dir',
      '{folder}/run',
    ]);
    expect(end.code).toBe(0);
    expect(end.stdout).toContain('left process');
    expect(left).toEqual([]);
  },
  TEST_MS,
);
