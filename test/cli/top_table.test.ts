import { describe, expect, it } from 'vitest';
import { ratesBetween, type Snapshot, topText } from '../../cli/output/top_table.js';
import { NOTHING_SPENT } from '../../coordinator/core/spent.js';
import { parseJobSpec } from '../../shared/job_spec.js';
import type { Job, Node, Usage } from '../../shared/wire/jobs.js';

const spec = parseJobSpec('version: 1\nname: gpt\ntask: a.py:A\nsteps: 100\nbatch: 4\nmicrobatches: 2');

function job(id: string, changes: Partial<Job> = {}): Job {
  return {
    ...{ job: id, spec, state: 'running', reason: '', submittedMs: 5, committed: 40, steps: 100, generation: 1 },
    ...{ workers: ['w1', 'w2'], loss: 0.5, weightsDigest: '', output: '/o', checkpoints: '/c', resumedFrom: '' },
    ...{ bundle: '/b', user: 'ann', spent: NOTHING_SPENT, pricePerWorkerHour: 0 },
    ...changes,
  };
}

const node: Node = {
  ...{
    worker: 'w1',
    host: 'box',
    pid: 1,
    enginePid: 2,
    loopDelayMs: 1.25,
    state: 'training',
    job: 'j1',
    committed: 40,
  },
  engine: 'torch 2.1 cuda',
  engineUsage: { memoryBytes: 450e6, cores: 1.48, device: { usedBytes: 9e9, totalBytes: 80e9 } },
  hostUsedBytes: 810e6,
  machine: { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 },
  cordoned: '',
  quarantined: '',
  marked: '',
};

const UNUSED: Usage = {
  ...{ sinceMs: 0, timeMs: 0, jobs: NOTHING_SPENT, pricePerWorkerHour: 0, users: [] },
  ...{ idleSeconds: 0, cordonedSeconds: 0, quarantinedSeconds: 0, leavingSeconds: 0 },
};

function snapshot(timeMs: number, jobs: readonly Job[], nodes: readonly Node[] = [node]): Snapshot {
  return { timeMs, jobs, nodes, usage: UNUSED };
}

describe('top', () => {
  it('shows how fast a job goes and how long it has left, from two looks', () => {
    const before = snapshot(1000, [job('j1')]);
    const now = snapshot(3000, [job('j1', { committed: 50 })]);
    expect(ratesBetween(undefined, now).size).toBe(0);
    const rates = ratesBetween(before, now);
    expect(rates.get('j1')).toBe(5);
    expect(topText(now, rates)).toBe(
      [
        'jobs: 1 running, 0 queued, 0 ended   workers: 1, 0 idle',
        '',
        'job  name  state    progress    step    loss    steps/s  left  workers',
        'j1   gpt   running  #####.....  50/100  0.5000  5.00     10s   w1 w2',
        '',
        'worker  host  state     job  step  loop ms  cores  memory  host memory       engine',
        'w1      box   training  gpt  40    1.3      1.5    450 MB  810 MB of 1.1 GB  torch 2.1 cuda, 9.0 of 80 GB',
      ].join('\n'),
    );
  });

  it('shows what runs, then what waits and why, then the newest of what has ended', () => {
    const ended = Array.from({ length: 8 }, (_, i) => job(`end${i}`, { state: 'finished', committed: 100 }));
    const waiting = job('wait', { state: 'queued', committed: 0, steps: 0, reason: 'waits for workers', workers: [] });
    const text = topText(snapshot(0, [...ended, waiting, job('run')]), new Map());
    const ids = text
      .split('\n')
      .slice(3, 10)
      .map((line) => line.split(' ')[0]);
    expect(ids).toEqual(['run', 'wait', 'end7', 'end6', 'end5', 'end4', 'end3']);
    expect(text).toContain('waits for workers');
  });

  it('says where the worker-hours went', () => {
    const jobs = { ...NOTHING_SPENT, workerSeconds: 3000, computeSeconds: 2500, waitingSeconds: 500 };
    const usage = { ...UNUSED, jobs, idleSeconds: 1000 };
    const text = topText({ ...snapshot(0, []), usage }, new Map());
    expect(text.split('\n')[1]).toBe('worker-hours: 1.11, compute 63 %, waiting 13 %, idle 25 %');
  });

  it('shows nothing of what is not known of a worker', () => {
    const unknown = { ...node, engine: '', engineUsage: undefined, hostUsedBytes: undefined };
    const text = topText(snapshot(0, [job('j1')], [unknown]), new Map());
    expect(text.split('\n').at(-1)).toMatch(/^w1 +box +training +gpt +40 +1.3$/);
  });

  it('a job that was restored does not go backwards', () => {
    expect(ratesBetween(snapshot(0, [job('j1')]), snapshot(1000, [job('j1', { committed: 30 })])).size).toBe(0);
  });

  it('shows nobody where nobody is, and nothing that could move the cursor', () => {
    expect(topText(snapshot(0, [], []), new Map())).toContain('workers: 0, 0 idle');
    expect(topText(snapshot(0, [], [{ ...node, host: 'a\u001b[2Jb' }]), new Map())).not.toContain('\u001b');
  });
});
