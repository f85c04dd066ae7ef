import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readJobFile, resolveBundle } from '../../shared/job_file.js';

let folder = '';

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'lockstep-job-')));
});

afterEach(() => rmSync(folder, { recursive: true }));

const job = 'version: 1\nname: x\ntask: train.py:Train\nsteps: 1\nbatch: 1\nmicrobatches: 1\n';

describe('a job file on disk', () => {
  it('is read with the real path of its folder', () => {
    mkdirSync(join(folder, 'real'));
    symlinkSync(join(folder, 'real'), join(folder, 'link'));
    writeFileSync(join(folder, 'real/job.yaml'), job);
    writeFileSync(join(folder, 'real/train.py'), '');
    const { spec, bundle } = readJobFile(join(folder, 'link/job.yaml'));
    expect(bundle).toBe(join(folder, 'real'));
    expect(spec.name).toBe('x');
  });

  it('is refused when it is not there, is a folder, is large or is not text', () => {
    expect(() => readJobFile(join(folder, 'no.yaml'))).toThrow('there is no such file');
    expect(() => readJobFile(folder)).toThrow('is a folder; name the job file (YAML) in it');
    writeFileSync(join(folder, 'train.py'), 'import torch');
    expect(() => readJobFile(join(folder, 'train.py'))).toThrow('train.py: is Python; name a job file');
    writeFileSync(join(folder, 'large.yaml'), '#'.repeat(65_537));
    expect(() => readJobFile(join(folder, 'large.yaml'))).toThrow('large.yaml: is larger than 64 KiB');
    writeFileSync(join(folder, 'binary.yaml'), Buffer.from([0xff, 0xfe, 0x00]));
    expect(() => readJobFile(join(folder, 'binary.yaml'))).toThrow('cannot be read as UTF-8');
  });
});

describe('the task file', () => {
  const yaml = (): string => join(folder, 'bundle/job.yaml');

  beforeEach(() => mkdirSync(join(folder, 'bundle')));

  it('may be a link inside the bundle', () => {
    writeFileSync(join(folder, 'bundle/a.py'), '');
    symlinkSync('a.py', join(folder, 'bundle/b.py'));
    expect(resolveBundle(yaml(), 'b.py:Task')).toBe(join(folder, 'bundle'));
  });

  it('is refused when it is missing', () => {
    expect(() => resolveBundle(yaml(), 'a.py:Task')).toThrow('job.yaml: task: there is no file a.py');
  });

  it('is refused when a link leads out of the bundle', () => {
    writeFileSync(join(folder, 'outside.py'), '');
    symlinkSync('../outside.py', join(folder, 'bundle/a.py'));
    expect(() => resolveBundle(yaml(), 'a.py:Task')).toThrow('leads out of the folder');
  });

  it('is refused when a folder on its way leads out, to a neighbour whose name begins the same', () => {
    mkdirSync(join(folder, 'bundle2'));
    writeFileSync(join(folder, 'bundle2/a.py'), '');
    symlinkSync('../bundle2', join(folder, 'bundle/models'));
    expect(() => resolveBundle(yaml(), 'models/a.py:Task')).toThrow('leads out of the folder');
  });

  it('is refused when it is a FIFO or a folder', () => {
    execFileSync('mkfifo', [join(folder, 'bundle/a.py')]);
    mkdirSync(join(folder, 'bundle/b.py'));
    expect(() => resolveBundle(yaml(), 'a.py:Task')).toThrow('a.py is not a regular file');
    expect(() => resolveBundle(yaml(), 'b.py:Task')).toThrow('b.py is not a regular file');
  });
});
