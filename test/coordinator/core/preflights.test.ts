import { beforeEach, describe, expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import type { CoordinatorCommand } from '../../../coordinator/core/command.js';
import type { CoordinatorEvent } from '../../../coordinator/core/event.js';
import { type CoordinatorState, DEFAULT_SETTINGS, initialState } from '../../../coordinator/core/state.js';
import { nodesView, reasonOf } from '../../../coordinator/core/views.js';
import { parseJobSpec } from '../../../shared/job_spec.js';
import type { Preflight } from '../../../shared/wire/jobs.js';
import type { WorkerMessage } from '../../../shared/wire/session.js';
import { knownPreflight } from './known_preflight.js';

const MACHINE = { labels: new Map<string, string>(), cpus: 1, gpus: 0, memoryBytes: 2 ** 34 };
const SLOW = { matmulGflops: 5 };
const HEARTBEAT = { enginePid: 0, committed: 0, microbatchMs: 0, restoredPieces: 0, loopDelayMs: 0 };

let state: CoordinatorState;
let nowMs = 0;

function happen(event: CoordinatorEvent): readonly CoordinatorCommand[] {
  return apply(state, { nowMs, wallMs: nowMs, event }).flatMap((command) => {
    // Whatever is to be stored is stored at once.
    if (command.kind !== 'write') return command;
    return [command, ...happen({ kind: 'write_stored', operation: command.operation })];
  });
}

function say(worker: string, message: WorkerMessage): readonly CoordinatorCommand[] {
  return happen({ kind: 'session_message', session: `s-${worker}`, message });
}

type Hello = Extract<WorkerMessage, { kind: 'hello' }>;

function hello(worker: string, changes: Partial<Hello> = {}): readonly CoordinatorCommand[] {
  const identity = { worker, incarnation: `${worker}#1`, host: 'h', pid: 1, peerAddress: `${worker}:1` };
  return say(worker, {
    kind: 'hello',
    protocol: 1,
    ...identity,
    term: 0,
    machine: MACHINE,
    measures: true,
    ...changes,
  });
}

function measured(worker: string, changes: Partial<Preflight> = {}): readonly CoordinatorCommand[] {
  const peers = ['p', 'q'].map((peer) => ({ worker: peer, sameHost: false, bytesPerSecond: 1e9, problem: '' }));
  return say(worker, { kind: 'measured', preflight: knownPreflight({ peers, ...changes }) });
}

function submit(job: string, workersMin: number, workersMax = 8): void {
  const text = `{version: 1, name: ${job}, task: "a.py:A", steps: 9, batch: 8, microbatches: 8, workers: {min: ${workersMin}, max: ${workersMax}}}`;
  const fields = { operationId: job, bundle: '/b', output: '/o', checkpoints: '/c', user: 'ann' };
  happen({ kind: 'submit', request: job, job, submit: { ...fields, spec: parseJobSpec(text) } });
}

/** Heartbeats of everybody, and the time goes on. */
function pass(ms: number): readonly CoordinatorCommand[] {
  const untilMs = nowMs + ms;
  const commands: CoordinatorCommand[] = [];
  while (nowMs < untilMs) {
    nowMs = Math.min(untilMs, nowMs + 1_000);
    for (const worker of state.workers.keys()) say(worker, { kind: 'heartbeat', ...HEARTBEAT });
    commands.push(...happen({ kind: 'ticked' }));
  }
  return commands;
}

function sent<K extends string>(commands: readonly CoordinatorCommand[], kind: K) {
  return commands.flatMap((command) =>
    command.kind === 'send' && command.message.kind === kind ? [{ to: command.session, message: command.message }] : [],
  );
}

const marks = () => nodesView(state, nowMs).flatMap(({ worker, marked }) => (marked === '' ? [] : [worker]));
const holders = () => [...state.workers.values()].flatMap(({ worker, job }) => (job === undefined ? [] : [worker]));
const events = (job: string) =>
  [...(state.jobs.get(job)?.events ?? [])].flatMap((event) => (event.kind === 'workerMarked' ? event : []));

function waitsOf(job: string): string {
  const run = state.jobs.get(job);
  return run === undefined ? '' : reasonOf(state, run);
}

beforeEach(() => {
  nowMs = 0;
  state = initialState({ ...DEFAULT_SETTINGS, name: 'c1' });
  happen({ kind: 'elected', term: 1, jobs: [], generations: [], checkpoints: [], nodes: [], accounts: undefined });
});

describe('a worker that has come', () => {
  it('is told to measure itself, gets no job meanwhile, and one as soon as it has', () => {
    submit('j', 1);
    const greeted = hello('w1');
    expect(sent(greeted, 'measure')).toEqual([{ to: 's-w1', message: { kind: 'measure', peers: [], term: 1 } }]);
    expect(nodesView(state, nowMs)).toMatchObject([{ worker: 'w1', state: 'measuring', marked: '' }]);
    pass(2_000);
    expect(holders()).toEqual([]);
    expect(waitsOf('j')).toMatch(/1 worker: its pre-flight has not come/);
    const loads = sent(measured('w1'), 'load');
    expect(loads.map(({ to }) => to)).toEqual(['s-w1']);
    expect(nodesView(state, nowMs)[0]?.preflight).toMatchObject({ matmulGflops: 100 });
  });

  it('gets a job at once if it does not measure itself', () => {
    submit('j', 1);
    const greeted = hello('w1', { measures: false });
    expect(sent(greeted, 'measure')).toEqual([]);
    expect(sent(greeted, 'load')).toHaveLength(1);
  });

  it('is named two peers, on other hosts and idle first, also those that come a moment later', () => {
    for (const [worker, address] of [
      ['a', '10.0.0.1:1'],
      ['b', '10.0.0.2:1'],
    ] as const) {
      hello(worker, { measures: false, peerAddress: address });
    }
    submit('j', 1, 1);
    expect(holders()).toEqual(['a']);
    const greeted = sent(hello('c', { peerAddress: '10.0.0.3:1' }), 'measure');
    expect(greeted).toMatchObject([{ message: { peers: [{ worker: 'b' }, { worker: 'a' }] } }]);
    state.workers.clear();
    state.byJob.clear();
    expect(sent(hello('x'), 'measure')).toMatchObject([{ to: 's-x', message: { peers: [] } }]);
    expect(sent(hello('y'), 'measure')).toMatchObject([
      { to: 's-x', message: { peers: [{ worker: 'y' }] } },
      { to: 's-y', message: { peers: [{ worker: 'x' }] } },
    ]);
  });

  it('that does not answer in time is marked as such, and its job goes to others', () => {
    submit('j', 1);
    hello('w1');
    pass(DEFAULT_SETTINGS.measureMs - 2_000);
    expect(marks()).toEqual([]);
    pass(4_000);
    expect(nodesView(state, nowMs)).toMatchObject([
      { state: 'idle', marked: 'its pre-flight has not come within 180 s' },
    ]);
    expect(waitsOf('j')).toMatch(/1 worker: it is marked for its pre-flight/);
    hello('w2');
    measured('w2');
    expect(holders()).toEqual(['w2']);
  });
});

describe('a worker that is far below its peers', () => {
  const OTHERS = ['w1', 'w2', 'w3'];
  const all = [...OTHERS, 'w4'];

  /** The slow one first, so that it has to wait for the others to be known as slow. */
  function comeAll(): void {
    for (const worker of all) hello(worker);
    measured('w4', SLOW);
    for (const worker of OTHERS) measured(worker);
  }

  it('is marked, gets no job, and every job that is open says so', () => {
    submit('large', 4);
    comeAll();
    expect(marks()).toEqual(['w4']);
    expect(events('large')).toMatchObject([{ worker: 'w4', reason: expect.stringMatching(/^matrix products: 5.00/) }]);
    expect(waitsOf('large')).toMatch(/3 are idle; 1 worker: it is marked for its pre-flight/);
    submit('small', 1);
    expect(holders().sort()).not.toContain('w4');
  });

  it('waits for its peers who are at it, rather than slow down a job until it is seen', () => {
    submit('small', 1);
    for (const worker of all) hello(worker);
    measured('w4', SLOW);
    expect(holders()).toEqual([]);
    expect(waitsOf('small')).toMatch(/1 worker: its pre-flight waits for those of its peers/);
    for (const worker of OTHERS) measured(worker);
    expect(holders()).toHaveLength(3);
    expect(holders()).not.toContain('w4');
  });

  it('does not wait for peers who are at it for longer than half a minute', () => {
    submit('small', 1, 1);
    for (const worker of all) hello(worker);
    measured('w4', SLOW);
    pass(29_000);
    expect(holders()).toEqual([]);
    pass(3_000);
    expect(holders()).toEqual(['w4']);
  });

  it('works where there are too few to compare it with', () => {
    submit('j', 1);
    hello('w1');
    hello('w4');
    measured('w4', SLOW);
    expect(holders()).toEqual(['w4']);
    expect(marks()).toEqual([]);
  });

  it('is measured again after a while, and gets jobs when it is well', () => {
    submit('large', 4);
    comeAll();
    expect(sent(pass(DEFAULT_SETTINGS.remeasureMs - 5_000), 'measure').filter(({ to }) => to === 's-w4')).toEqual([]);
    expect(sent(pass(10_000), 'measure').filter(({ to }) => to === 's-w4')).toHaveLength(1);
    measured('w4', { ...SLOW, timeMs: 2 });
    expect(marks()).toEqual(['w4']);
    pass(DEFAULT_SETTINGS.remeasureMs + 5_000);
    measured('w4', { timeMs: 3 });
    expect(marks()).toEqual([]);
    expect(events('large').map(({ reason }) => reason)).toEqual([expect.stringMatching(/matrix/), '']);
    expect(holders()).toHaveLength(4);
  });

  it('is taken back by uncordon, and is told so', () => {
    submit('large', 4);
    comeAll();
    const commands = happen({ kind: 'uncordon', request: 'r', worker: 'w4' });
    expect(sent(commands, 'verdict')).toEqual([{ to: 's-w4', message: { kind: 'verdict', marked: '', term: 1 } }]);
    expect(events('large').at(-1)).toMatchObject({ worker: 'w4', reason: '' });
    pass(1_000);
    expect(holders()).toHaveLength(4);
  });

  it('stays marked when its daemon is started again, until it has measured itself anew', () => {
    comeAll();
    submit('large', 4);
    const greeted = hello('w4', { incarnation: 'w4#2' });
    expect(sent(greeted, 'measure').map(({ to }) => to)).toEqual(['s-w4']);
    expect(marks()).toEqual(['w4']);
    measured('w4', { timeMs: 2 });
    expect(holders()).toHaveLength(4);
  });

  it('is still marked under the next leader, and still taken back if it was', () => {
    comeAll();
    const marked = state.preflights.get('w4')?.marked ?? '';
    happen({ kind: 'deposed' });
    happen({ kind: 'elected', term: 2, jobs: [], generations: [], checkpoints: [], nodes: [], accounts: undefined });
    hello('w4', { preflight: knownPreflight(SLOW), verdict: { marked } });
    expect(marks()).toEqual(['w4']);
    happen({ kind: 'deposed' });
    happen({ kind: 'elected', term: 3, jobs: [], generations: [], checkpoints: [], nodes: [], accounts: undefined });
    hello('w4', { preflight: knownPreflight(SLOW), verdict: { marked: '' } });
    for (const worker of OTHERS) hello(worker, { preflight: knownPreflight(), verdict: { marked: '' } });
    expect(marks()).toEqual([]);
  });
});

describe('a worker whose daemon was started again', () => {
  it('gets its job back at once, and is measured when it has none', () => {
    submit('j', 2);
    for (const worker of ['w1', 'w2']) {
      hello(worker);
      measured(worker);
    }
    expect(holders()).toHaveLength(2);
    happen({ kind: 'session_closed', session: 's-w2', reason: 'reset' });
    nowMs += 1_000;
    say('w1', { kind: 'heartbeat', ...HEARTBEAT });
    const greeted = hello('w2', { incarnation: 'w2#2' });
    expect(sent(greeted, 'load')).toHaveLength(1);
    expect(sent(greeted, 'measure')).toEqual([]);
    happen({ kind: 'cancel', request: 'c', job: 'j', checkpoint: false });
    const unloaded = say('w2', { kind: 'unloaded', job: 'j' });
    expect(sent([...unloaded, ...pass(1_000)], 'measure').map(({ to }) => to)).toEqual(['s-w2']);
  });

  it('is measured first if it was away for long', () => {
    hello('w1');
    measured('w1');
    happen({ kind: 'session_closed', session: 's-w1', reason: 'reset' });
    pass(700_000);
    submit('j', 1);
    const greeted = hello('w1', { incarnation: 'w1#2' });
    expect(sent(greeted, 'load')).toEqual([]);
    expect(sent(measured('w1', { timeMs: 2 }), 'load')).toHaveLength(1);
  });

  it('lets go of a measurement for a job, and is measured afterwards', () => {
    hello('w1');
    measured('w1');
    hello('w1', { incarnation: 'w1#2' });
    expect(nodesView(state, nowMs)[0]?.state).toBe('measuring');
    submit('j', 1);
    expect(nodesView(state, nowMs)[0]?.state).toBe('loading');
    pass(DEFAULT_SETTINGS.measureMs + 5_000);
    expect(marks()).toEqual([]);
  });
});

it('a worker that had nobody to pull from is measured again when there is somebody', () => {
  hello('w1');
  measured('w1', { peers: [] });
  for (const worker of ['w2', 'w3']) {
    hello(worker);
    measured(worker);
  }
  const asked = sent(pass(DEFAULT_SETTINGS.remeasureMs + 2_000), 'measure');
  expect(asked).toMatchObject([{ to: 's-w1', message: { peers: [{ worker: 'w2' }, { worker: 'w3' }] } }]);
});
