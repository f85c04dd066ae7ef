/** Checkpoints as their owners use them: opened without Lockstep, verified, continued and built upon. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { verify } from '../../cli/commands/verify.js';
import { findPython } from '../../worker/io/python.js';
import { startCluster, submit, watchToEnd } from './cluster.js';
import { exampleTask, jobFolder, ownTask } from './job_folder.js';
import { exampleJob, Lockstep, newFolder, runToEnd, TEST_MS } from './run_lockstep.js';

const STEPS = 12;
const SAVED = 6;

const evaluated = z.object({
  event: z.literal('evaluated'),
  step: z.number(),
  metrics: z.record(z.string(), z.number()),
});
const committed = z.object({ event: z.literal('checkpoint_committed'), step: z.number(), path: z.string() });

const example = z.looseObject({ params: z.unknown() }).parse(parse(readFileSync(exampleJob('char_gpt'), 'utf8')));
const writeJob = jobFolder(join(newFolder(), 'job'), [exampleTask('char_gpt')]);
const job = writeJob({
  ...example,
  steps: STEPS,
  evaluate_every: SAVED,
  checkpoint: { every: SAVED, minutes: 0 },
});

let run: Lockstep;
let path: string;
beforeAll(async () => {
  run = new Lockstep(['run', job, '--workers', '2', '--dir', '{folder}/run', '--json']);
  expect(await run.end()).toMatchObject({ code: 0 });
  ({ path } = committed.parse(run.events.find(({ event }) => event === 'checkpoint_committed')));
}, TEST_MS);
afterAll(() => run?.close());

it('a checkpoint opened in plain Python, without Lockstep, evaluates to the figure that the cluster had at that step', async () => {
  const reader = fileURLToPath(new URL('plain_checkpoint_reader.py', import.meta.url));
  const params = JSON.stringify(example.params);
  const args = [reader, path, dirname(job), 'task.py:CharGPT', params, '1234'];
  const { stdout } = await promisify(execFile)(await findPython(undefined), args, { timeout: TEST_MS });
  const then = run.events.flatMap((event) => evaluated.safeParse(event).data ?? []).find(({ step }) => step === SAVED);
  expect(then?.metrics['held_out_loss']).toBeGreaterThan(1);
  expect(JSON.parse(stdout)).toEqual(then?.metrics);
});

it('verify says that a checkpoint is whole, and names the file of one that is not', async () => {
  const whole = await runToEnd(['verify', path, '--json']);
  expect(whole.end.code).toBe(0);
  expect(JSON.parse(whole.end.stdout)).toMatchObject({ event: 'verified', step: SAVED, path });
  const shard = join(path, readdirSync(path).find((name) => name.startsWith('shard')) ?? '');
  const bytes = readFileSync(shard);
  const flipped = Buffer.from(bytes);
  flipped[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
  writeFileSync(shard, flipped);
  const damaged = await runToEnd(['verify', path]);
  writeFileSync(shard, bytes);
  expect(damaged.end.code).toBe(1);
  expect(damaged.end.stderr).toContain(shard);
  expect((await runToEnd(['verify', dirname(path)])).end.code).toBe(3);
});

it('verify ends when it is interrupted, however much there is to read', async () => {
  const context = {
    ...{ stdout: process.stdout, write: () => {}, signal: AbortSignal.abort(), onKill: () => {}, environment: {} },
    ...{ user: undefined, defaultServer: undefined, tlsFolder: undefined, python: '', repository: '' },
  };
  await expect(verify(context, path, {})).rejects.toMatchObject({ exitCode: 130, message: 'interrupted' });
});

it(
  'a job that begins with the weights of a checkpoint is at once as good as they were',
  async () => {
    const before = run.steps();
    const args = ['run', job, '--init-from', path, '--steps', '1', '--workers', '1', '--dir', '{folder}/run', '--json'];
    const { end, lockstep } = await runToEnd(args);
    expect(end.code).toBe(0);
    const [first] = lockstep.steps();
    expect(first?.loss).toBeLessThan((before[0]?.loss ?? 0) - 0.5);
    expect(first?.loss).toBeCloseTo(before[SAVED]?.loss ?? 0, 0);
  },
  TEST_MS,
);

it(
  'the command line saves before it cancels, lists what was saved, and resumes from there or says why not',
  async () => {
    const cluster = await startCluster(2);
    try {
      const write = jobFolder(join(cluster.lockstep.folder, 'job'), [ownTask('line')]);
      const keys = { task: 'line.py:Line', steps: 100_000, batch: 96, microbatches: 12 };
      const line = write({ ...keys, name: 'line', checkpoint: { minutes: 0 } });
      const ask = async (...args: readonly string[]) => (await runToEnd([...args, '--server', cluster.api])).end;
      const id = await submit(cluster, line, 'line');
      expect(await ask('resume', id)).toMatchObject({ code: 2, stderr: expect.stringContaining('has not ended') });
      const started = async () => (await ask('events', id)).stdout.includes('generation 1') || undefined;
      await cluster.lockstep.until('the first generation', started);
      expect(await ask('cancel', id, '--checkpoint')).toMatchObject({ code: 0, stdout: `${id} is cancelled\n` });
      const listed = await ask('checkpoints', id, '--json');
      const saved = z
        .object({ step: z.number(), path: z.string(), damage: z.literal('') })
        .parse(JSON.parse(listed.stdout));
      expect(saved.step).toBeGreaterThan(0);
      expect((await ask('checkpoints', id)).stdout).toContain(saved.path);
      const missing = await ask('resume', id, '--from', '1');
      expect(missing).toMatchObject({ code: 3, stderr: expect.stringContaining(`those of the steps ${saved.step}`) });
      const resumed = await ask('resume', id, '--from', String(saved.step));
      expect(resumed.code).toBe(0);
      const again = resumed.stdout.trim();
      const went = async () => /generation 1 from step (\d+)/.exec((await ask('events', again)).stdout)?.[1];
      expect(await cluster.lockstep.until('the resumed generation', went)).toBe(String(saved.step));
      expect((await ask('job', again)).stdout).toContain(`from job ${id}`);
      expect(await ask('cancel', again)).toMatchObject({ code: 0 });
      expect((await watchToEnd(cluster, again)).end.code).toBe(1);
    } finally {
      await cluster.lockstep.close();
    }
  },
  TEST_MS,
);
