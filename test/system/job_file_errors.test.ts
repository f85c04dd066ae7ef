/** Bad job files through the real command line. The parser has table tests of its own: test/shared/job_spec.test.ts. */
import { existsSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { jobFolder, ownTask } from './job_folder.js';
import { newFolder, runToEnd, TEST_MS } from './run_lockstep.js';

const folder = newFolder();
afterAll(() => rmSync(folder, { recursive: true }));
const jobs = join(folder, 'job');
const writeJob = jobFolder(jobs, [ownTask('line')]);
const good = { task: 'line.py:Line', steps: 3, batch: 12, microbatches: 4 };
writeFileSync(join(folder, 'outside.py'), '');
symlinkSync(join(folder, 'outside.py'), join(jobs, 'link.py'));

const ownText = (name: string, text: string): string => {
  const path = join(jobs, name);
  writeFileSync(path, text);
  return path;
};

it.concurrent.each([
  ['an unknown key', writeJob({ ...good, name: 'a', stepz: 3 }), /stepz/],
  ['no batch', writeJob({ ...good, name: 'b', batch: undefined }), /batch/],
  ['microbatches that do not divide the batch', writeJob({ ...good, name: 'c', microbatches: 5 }), /microbatches/],
  ['an unknown version', writeJob({ ...good, name: 'd', version: 2 }), /version/],
  ['a task outside of the folder', writeJob({ ...good, name: 'e', task: '../outside.py:Line' }), /task.*\.\./],
  ['a link out of the folder', writeJob({ ...good, name: 'f', task: 'link.py:Line' }), /task.*link/],
  ['a task file that is not there', writeJob({ ...good, name: 'g', task: 'nowhere.py:Line' }), /task.*nowhere\.py/],
  ['gradients of an unknown type', writeJob({ ...good, name: 'j', exchange: 'fp16' }), /exchange.*fp32 or bf16/],
  ['a nested key of the wrong type', writeJob({ ...good, name: 'h', data: { tail: 'cut' } }), /data\.tail/],
  ['a link out of the folder beside the task', writeJob({ ...good, name: 'l' }), /"link\.py" is a link that leads out/],
  ['text that is not YAML', ownText('i.yaml', 'steps: [1'), /i\.yaml/],
  ['no such file', join(jobs, 'none.yaml'), /none\.yaml/],
])(
  'lockstep run refuses %s with exit code 2 and one line that names it, and starts nothing',
  async (_, job, names) => {
    const { end, lockstep, left } = await runToEnd(['run', job, '--dir', '{folder}/run', '--json']);
    expect(end.code).toBe(2);
    expect(end.stdout).toBe('');
    expect(end.stderr).toMatch(/^lockstep: [^\n]+\n$/);
    expect(end.stderr).toMatch(names);
    expect(existsSync(join(lockstep.folder, 'run'))).toBe(false);
    expect(left).toEqual([]);
  },
  TEST_MS,
);

it(
  'lockstep run of a class that does not exist fails the job with one line that names it',
  async () => {
    // Without the link, which would not be sent.
    const job = jobFolder(join(folder, 'other'), [ownTask('line')])({ ...good, name: 'k', task: 'line.py:Lime' });
    const { end, lockstep, left } = await runToEnd(['run', job, '--workers', '1', '--dir', '{folder}/run', '--json']);
    expect(end.code).toBe(1);
    expect(lockstep.finished().reason).toMatch(/^import failed on w1: .*line\.py has no class Lime$/);
    expect(left).toEqual([]);
  },
  TEST_MS,
);
