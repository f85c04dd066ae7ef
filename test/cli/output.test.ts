import { describe, expect, it } from 'vitest';
import { eventLine, logLine, progressLine } from '../../cli/output/event_line.js';
import { auditJson, eventJson, jobJson, nodeJson } from '../../cli/output/json.js';
import { NdjsonOutput } from '../../cli/output/ndjson.js';
import type { Output } from '../../cli/output/output.js';
import { PlainOutput } from '../../cli/output/plain.js';
import { Progress } from '../../cli/output/progress.js';
import { NOTHING_SPENT } from '../../coordinator/core/spent.js';
import { parseJobSpec } from '../../shared/job_spec.js';
import { formatDuration, formatLoss, formatRate } from '../../shared/text/numbers.js';
import { printable, printableLines } from '../../shared/text/printable.js';
import type { JobEvent } from '../../shared/wire/jobs.js';

const common = { sequence: 7, timeMs: 1000, job: 'j1' };

type OtherEvent = Exclude<JobEvent, { kind: 'stepCommitted' }>;

/** Step number `step` of 10, committed half a second after the one before. */
function stepEvent(step: number): Extract<JobEvent, { kind: 'stepCommitted' }> {
  return {
    ...{ kind: 'stepCommitted', sequence: step + 1, timeMs: step * 500, job: 'j1', step, steps: 10, epoch: 0 },
    ...{ loss: 1 / (step + 1), generation: 1, samples: 32, stepMs: 500, computeMs: 400, reduceMs: 90, applyMs: 10 },
    ...{ pulledBytes: 1024, skipped: false },
  };
}

const finished: Extract<JobEvent, { kind: 'jobFinished' }> = {
  ...{ ...common, kind: 'jobFinished', state: 'finished', steps: 10, loss: 0.25, weightsDigest: 'abc', reason: '' },
  ...{ traceback: '', metrics: new Map([['accuracy', 0.912345678]]), output: '/runs/x/model' },
};

const lines: readonly (readonly [OtherEvent, string])[] = [
  [{ ...common, kind: 'jobQueued', name: 'first' }, 'queued first as j1'],
  [{ ...common, kind: 'workerJoined', worker: 'w1' }, 'joined w1'],
  [{ ...common, kind: 'workerRefused', worker: 'w1', reason: 'another processor' }, 'refused w1: another processor'],
  [
    { ...common, kind: 'workerLost', worker: 'w2', detectedBy: 'heartbeat', detectMs: 1512.4, reason: 'silent' },
    'lost w2 (heartbeat, 1512 ms): silent',
  ],
  [
    { ...common, kind: 'workerLost', worker: 'w2', detectedBy: 'engine_exit', detectMs: 0, reason: 'signal SIGKILL' },
    'lost w2 (its engine failed): signal SIGKILL',
  ],
  [
    {
      ...common,
      kind: 'generationStarted',
      generation: 2,
      step: 12,
      workers: ['w1', 'w3'],
      reason: 'w2 was lost',
      restoredFrom: '',
    },
    'generation 2 from step 12 with w1, w3: w2 was lost',
  ],
  [
    {
      ...common,
      kind: 'checkpointCommitted',
      step: 12,
      path: '/c/j1/step-000000012',
      bytes: 1_510_000,
      saveMs: 80.4,
      writeMs: 30,
    },
    'saved the state after step 12 (1.5 MB, 80 ms): /c/j1/step-000000012',
  ],
  [
    { ...common, kind: 'checkpointFailed', step: 12, error: 'w1: /c: no space left on device' },
    'the state after step 12 was not saved: w1: /c: no space left on device',
  ],
  [
    { ...common, kind: 'checkpointRefused', step: 12, path: '/c/x', reason: 'w1: bad digest', damaged: true },
    'the checkpoint of step 12 is damaged and not used any more: w1: bad digest',
  ],
  [
    { ...common, kind: 'recovered', generation: 2, step: 12, pauseMs: 240.6 },
    'recovered in generation 2 at step 13, pause 241 ms',
  ],
  [{ ...common, kind: 'leaderChanged', term: 9 }, 'a coordinator leads in term 9'],
  [{ ...common, kind: 'evaluated', step: 100, metrics: new Map() }, 'evaluated after 100 steps: no metrics'],
  [
    { ...common, kind: 'evaluated', step: 100, metrics: new Map([['held_out_loss', 2.3456789]]) },
    'evaluated after 100 steps: held_out_loss 2.34568',
  ],
  [
    finished,
    [
      'finished after 10 steps',
      '  loss     0.2500',
      '  metrics  accuracy 0.912346',
      '  weights  abc',
      '  model    /runs/x/model/model.safetensors',
    ].join('\n'),
  ],
  [
    {
      ...{ ...finished, state: 'failed', loss: undefined, weightsDigest: '', metrics: new Map() },
      ...{ reason: 'loss failed on w1', traceback: 'Traceback\n  x\u001b[31m\nValueError\n' },
    },
    'failed after 10 steps: loss failed on w1\nTraceback\n  x\nValueError',
  ],
];

describe('an event for people', () => {
  it.each(lines)('%j', (event, text) => {
    expect(eventLine(event)).toBe(text);
  });

  it('cannot write escape sequences to the terminal', () => {
    const text = eventLine({
      ...common,
      kind: 'workerRefused',
      worker: 'w1',
      reason: 'a\u001b]0;title\u0007b\u001b[2Jc',
    });
    expect(text).toBe('refused w1: abc');
  });
});

describe('an event for programs', () => {
  it('has names in snake_case, and leaves out what is absent', () => {
    expect(eventJson({ ...finished, loss: undefined })).toEqual({
      ...{ event: 'job_finished', time_ms: 1000, job: 'j1', sequence: 7, state: 'finished', steps: 10 },
      ...{ loss: undefined, weights_digest: 'abc', reason: '', traceback: '', metrics: { accuracy: 0.912345678 } },
      output: '/runs/x/model',
    });
    expect(JSON.parse(JSON.stringify(eventJson({ ...finished, loss: undefined })))).not.toHaveProperty('loss');
  });

  it('keeps the names of metrics as they are', () => {
    const metrics = new Map([['heldOut', 1]]);
    expect(eventJson({ ...common, kind: 'evaluated', step: 1, metrics })['metrics']).toEqual({ heldOut: 1 });
  });

  it('is one line each, after the ready line', () => {
    const written: string[] = [];
    const output: Output = new NdjsonOutput((text) => written.push(text));
    output.note('for people');
    output.ready({
      api: 'a:1',
      dashboard: 'http://d:3',
      etcd: 'http://b:2',
      pids: { etcd: 1, coordinators: [2], workers: { w1: 3 } },
    });
    output.event(stepEvent(0));
    expect(written.map((line) => line.endsWith('\n') && JSON.parse(line))).toEqual([
      {
        event: 'ready',
        api: 'a:1',
        dashboard: 'http://d:3',
        etcd: 'http://b:2',
        pids: { etcd: 1, coordinators: [2], workers: { w1: 3 } },
      },
      {
        ...{ event: 'step_committed', time_ms: 0, job: 'j1', sequence: 1, step: 0, steps: 10, epoch: 0, loss: 1 },
        ...{ generation: 1, samples: 32, step_ms: 500, compute_ms: 400, reduce_ms: 90, apply_ms: 10 },
        ...{ pulled_bytes: 1024, skipped: false },
      },
    ]);
  });
});

describe('jobs, nodes and audits for programs', () => {
  it('have the names that tools rely on', () => {
    const spec = parseJobSpec(
      'version: 1\nname: x\ntask: a.py:A\nsteps: 2\nbatch: 4\nmicrobatches: 2\nparams: {learningRate: 0.1}',
    );
    const job = jobJson({
      ...{ job: 'j1', spec, state: 'running', reason: '', submittedMs: 5, committed: 1, steps: 2, generation: 1 },
      ...{
        workers: ['w1'],
        loss: 0.5,
        weightsDigest: '',
        output: '/o',
        checkpoints: '/c',
        resumedFrom: '',
        bundle: '/b',
      },
      user: 'ann',
      spent: NOTHING_SPENT,
      pricePerWorkerHour: 0,
      secondsLeft: 4.5,
    });
    expect(job).toMatchObject({ job: 'j1', name: 'x', submitted_ms: 5, weights_digest: '' });
    expect(job['spec']).toMatchObject({ workers_max: 2, params: { learningRate: 0.1 } });
    expect(
      nodeJson({
        ...{
          worker: 'w1',
          host: 'h',
          pid: 3,
          enginePid: 4,
          loopDelayMs: 1.5,
          state: 'training',
          job: 'j1',
          committed: 17,
        },
        engine: 'torch',
        machine: { labels: new Map([['zone', 'a']]), cpus: 2, gpus: 1, memoryBytes: 9 },
        cordoned: 'broken fan',
        quarantined: '',
        marked: 'slow disk',
        engineUsage: { memoryBytes: 5, cores: 1.5, device: { usedBytes: 3, totalBytes: 8 } },
      }),
    ).toEqual({
      ...{ worker: 'w1', host: 'h', pid: 3, engine_pid: 4, state: 'training', job: 'j1', step: 17, engine: 'torch' },
      loop_delay_ms: 1.5,
      machine: { labels: { zone: 'a' }, cpus: 2, gpus: 1, memory_bytes: 9 },
      cordoned: 'broken fan',
      quarantined: '',
      marked: 'slow disk',
      preflight: null,
      engine_usage: { memory_bytes: 5, cores: 1.5, device: { used_bytes: 3, total_bytes: 8 } },
      host_used_bytes: null,
    });
    expect(auditJson({ job: 'j1', steps: 9, samplesLost: 1, samplesRepeated: 2 })).toEqual({
      ...{ event: 'audit', job: 'j1', samples_lost: 1, samples_repeated: 2, steps: 9 },
    });
  });
});

describe('progress', () => {
  it('takes its speed from the times of the events', () => {
    const progress = new Progress();
    expect(progress.step(stepEvent(0))).toEqual({
      ...{ done: 1, total: 10, epoch: 0, loss: 1, samplesPerSecond: undefined, secondsLeft: undefined },
    });
    progress.step(stepEvent(1));
    const now = progress.step(stepEvent(2));
    expect(now).toMatchObject({ done: 3, samplesPerSecond: 64, secondsLeft: 3.5 });
    expect(progressLine(now)).toBe('step 3/10  loss 0.3333  64.0 samples/s  4s left');
  });

  it('is no faster when steps are reported late and all at once', () => {
    const progress = new Progress();
    for (let step = 0; step < 9; step++) progress.step({ ...stepEvent(step), timeMs: step / 100 });
    expect(progress.step({ ...stepEvent(9), timeMs: 1 }).samplesPerSecond).toBe(64);
  });

  it('begins anew where the clock of another leader is behind, or steps are made again', () => {
    const progress = new Progress();
    for (let step = 0; step < 5; step++) progress.step({ ...stepEvent(step), timeMs: 3_600_000 + step * 500 });
    progress.step(stepEvent(5));
    expect(progress.step(stepEvent(6)).samplesPerSecond).toBe(64);
    progress.step({ ...stepEvent(3), timeMs: 3_500 });
    expect(progress.step({ ...stepEvent(4), timeMs: 4_000 }).samplesPerSecond).toBe(64);
  });

  it('is shown without a terminal as often under a leader whose clock is behind', () => {
    const written: string[] = [];
    const output = new PlainOutput((text) => written.push(text));
    output.event({ ...stepEvent(0), timeMs: 3_600_000 });
    for (let step = 1; step < 6; step++) output.event(stepEvent(step));
    expect(written.map((line) => line.split(' ')[1])).toEqual(['1/10', '2/10', '4/10', '6/10']);
  });

  it('forgets how fast it was long ago', () => {
    const progress = new Progress();
    progress.step({ ...stepEvent(0), timeMs: 0 });
    progress.step({ ...stepEvent(1), timeMs: 1_000_000 });
    progress.step({ ...stepEvent(2), timeMs: 1_000_500 });
    expect(progress.step({ ...stepEvent(3), timeMs: 1_001_000 }).samplesPerSecond).toBe(64);
  });

  it('is a line about every second, and one for the last step', () => {
    const written: string[] = [];
    const output = new PlainOutput((text) => written.push(text));
    for (let step = 0; step < 10; step++) output.event(stepEvent(step));
    expect(written.map((line) => line.split('  ')[0])).toEqual([
      ...['step 1/10', 'step 3/10', 'step 5/10', 'step 7/10', 'step 9/10', 'step 10/10'],
    ]);
  });
});

describe('numbers', () => {
  it.each([
    [0, '0s'],
    [59.2, '1m00s'],
    [125, '2m05s'],
    [12_000, '3h20m'],
    [-1, '0s'],
  ])('%d seconds', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });

  it('of losses and rates', () => {
    expect(formatLoss(2.34567)).toBe('2.3457');
    expect(formatLoss(Number.NaN)).toBe('NaN');
    expect(formatRate(12_345.6)).toBe('12,346');
    expect(formatRate(9.876)).toBe('9.88');
  });
});

describe('text from elsewhere', () => {
  it('loses its escape sequences and shows its control characters', () => {
    expect(printable('a\u001b[1;31mb\u001b[0m\r\nc\u0000d')).toBe('ab c\ufffdd');
    expect(printable('left\u202eright')).toBe('left\ufffdright');
    expect(printableLines('a\rb\nc\td')).toBe('a\nb\nc\td');
    expect(printableLines('<b>&amp;')).toBe('<b>&amp;');
  });

  it('is shown with the name of its worker before every line', () => {
    expect(logLine({ worker: 'w1', attempt: 1, text: 'one\ntwo\n' })).toBe('[w1] one\n[w1] two');
    expect(logLine({ worker: 'w1', attempt: 2, text: '' })).toBe('[w1#2] ');
  });
});
