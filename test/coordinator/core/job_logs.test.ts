import fc from 'fast-check';
import { expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import {
  addLines,
  type LogSelection,
  lineFrom,
  problemOfSelection,
  tailOf,
} from '../../../coordinator/core/job_logs.js';
import { type CoordinatorState, DEFAULT_SETTINGS, type JobRun, type Worker } from '../../../coordinator/core/state.js';
import type { Turn } from '../../../coordinator/core/turn.js';
import type { LogLine } from '../../../shared/wire/session.js';
import { addJob, leadingState } from '../web/known_jobs.js';
import { knownWorker } from './known_worker.js';

function leader(limits: { readonly ofJob?: number; readonly ofAll?: number } = {}): CoordinatorState {
  const { ofJob = 1_048_576, ofAll = 67_108_864 } = limits;
  const settings = { ...DEFAULT_SETTINGS, name: 'c1', logBytesLimit: ofJob, allLogBytesLimit: ofAll };
  return { ...leadingState(), settings };
}

function turnOf(state: CoordinatorState): Turn {
  if (state.leading === undefined) throw new Error('does not lead');
  return { state, leading: state.leading, nowMs: 0, wallMs: 0, commands: [] };
}

function line(number: number, timeMs = number, attempt = 1): LogLine {
  return { number, timeMs, attempt, stream: 'stdout', text: `line ${number}`, generation: 1, step: 0 };
}

function worker(name: string, incarnation = 1): Worker {
  return { ...knownWorker(name, 'a'), incarnation: `${name}#${incarnation}` };
}

function say(state: CoordinatorState, run: JobRun, from: Worker, lines: readonly LogLine[]): void {
  addLines(turnOf(state), run, from, lines);
}

const EVERYTHING: LogSelection = { worker: '', attempt: undefined };

function read(run: JobRun, wanted = EVERYTHING, from = 0): readonly string[] {
  const found: string[] = [];
  for (let next = from; ; ) {
    const { entry, line: at } = lineFrom(run, next, wanted);
    if (entry === undefined) return found;
    found.push(`${entry.worker} ${entry.number}`);
    next = at + 1;
  }
}

it('lines that a worker says again are passed over; those of a new incarnation are not', () => {
  const state = leader();
  const run = addJob(state, 'a');
  say(state, run, worker('w1'), [line(1), line(2)]);
  say(state, run, worker('w1'), [line(1), line(2), line(3)]);
  say(state, run, worker('w1', 2), [line(1)]);
  expect(read(run)).toEqual(['w1 1', 'w1 2', 'w1 3', 'w1 1']);
});

it('can be read by worker, by attempt, and from the newest on', () => {
  const state = leader();
  const run = addJob(state, 'a');
  say(state, run, worker('w1'), [line(1), line(2, 2, 2)]);
  say(state, run, worker('w2'), [line(1, 3), line(2, 4)]);
  expect(read(run, { worker: 'w2', attempt: undefined })).toEqual(['w2 1', 'w2 2']);
  expect(read(run, { worker: '', attempt: 2 })).toEqual(['w1 2']);
  expect(read(run, EVERYTHING, tailOf(run, EVERYTHING, 1))).toEqual(['w2 2']);
  const ofFirst = { worker: '', attempt: 1 };
  expect(read(run, ofFirst, tailOf(run, ofFirst, 3))).toEqual(['w1 1', 'w2 1', 'w2 2']);
});

it('what nobody can have printed has a name', () => {
  const state = leader();
  const run = addJob(state, 'a');
  expect(problemOfSelection(run, { worker: 'w1', attempt: undefined })).toContain('no worker has had it');
  say(state, run, worker('w1'), [line(1, 1, 3)]);
  expect(problemOfSelection(run, { worker: 'w1', attempt: 2 })).toBeUndefined();
  expect(problemOfSelection(run, { worker: 'w1', attempt: 4 })).toBe(
    'worker w1 has not made attempt 4 of job a: there were 3',
  );
  expect(problemOfSelection(run, { worker: 'w2', attempt: undefined })).toBe(
    'job a was never given to worker w2: it was given to w1',
  );
});

it('a job keeps its newest lines within its bound, empty ones too', () => {
  const state = leader({ ofJob: 1_000 });
  const run = addJob(state, 'a');
  for (let number = 1; number <= 500; number++) say(state, run, worker('w1'), [{ ...line(number), text: '' }]);
  expect(run.logs.bytes).toBeLessThanOrEqual(1_000);
  expect(read(run).at(-1)).toBe('w1 500');
  expect(run.logs.dropped + run.logs.lines.length).toBe(500);
  expect(state.logBytes).toBe(run.logs.bytes);
});

it('all jobs together have a bound: those that ended longest ago make room, then the largest', () => {
  const state = leader({ ofAll: 2_000 });
  const [old, other, running] = [addJob(state, 'old'), addJob(state, 'other'), addJob(state, 'running')];
  say(state, old, worker('w1'), [line(1, 10), line(2, 11)]);
  say(state, other, worker('w1'), [line(3, 20), line(4, 21)]);
  for (const run of [old, other]) run.record = { ...run.record, state: 'finished' };
  const lines = Array.from({ length: 26 }, (_, index) => line(index + 5));
  say(state, running, worker('w1'), lines);
  expect([old, other].map(({ logs }) => logs.lines.length)).toEqual([0, 2]);
  say(state, running, worker('w1'), [...lines, ...Array.from({ length: 24 }, (_, index) => line(index + 31))]);
  expect(other.logs.lines).toEqual([]);
  expect(read(running).at(-1)).toBe('w1 54');
  expect(state.logBytes).toBeLessThanOrEqual(2_000);
});

it('a new leader collects for a moment, and then has all lines in the order of time, whatever came first', () => {
  const state = leader();
  const { record } = addJob(state, 'a');
  const elected = {
    kind: 'elected',
    term: 2,
    jobs: [record],
    generations: [],
    checkpoints: [],
    nodes: [],
    accounts: undefined,
  } as const;
  apply(state, { nowMs: 1_000, wallMs: 0, event: elected });
  const run = state.jobs.get('a');
  if (run === undefined) throw new Error('no job');
  say(state, run, worker('w2'), [line(1, 2), line(2, 4)]);
  say(state, run, worker('w1'), [line(1, 1), line(2, 3)]);
  apply(state, { nowMs: 1_000 + state.settings.adoptMs - 1, wallMs: 0, event: { kind: 'ticked' } });
  expect(run.logs.collects).toBe(true);
  const commands = apply(state, { nowMs: 1_000 + state.settings.adoptMs, wallMs: 0, event: { kind: 'ticked' } });
  expect(commands).toContainEqual({ kind: 'publish', job: 'a' });
  expect(read(run)).toEqual(['w1 1', 'w2 1', 'w1 2', 'w2 2']);
});

it('however a clock jumps and whatever is said again, each line is there once and those of a worker are in order', () => {
  const speech = fc.record({
    name: fc.constantFrom('w1', 'w2'),
    from: fc.nat(5),
    times: fc.array(fc.nat(100), { maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(speech, { maxLength: 20 }), (speeches) => {
      const state = leader();
      const run = addJob(state, 'a');
      state.collectsUntilMs = 10;
      run.logs.collects = true;
      const said = new Map<string, number>();
      for (const { name, from, times } of speeches) {
        const next = (said.get(name) ?? 0) + 1;
        const first = Math.max(1, next - from);
        say(
          state,
          run,
          worker(name),
          times.map((timeMs, index) => line(first + index, timeMs)),
        );
        said.set(name, Math.max(next - 1, first + times.length - 1));
      }
      apply(state, { nowMs: 10, wallMs: 0, event: { kind: 'ticked' } });
      for (const [name, count] of said) {
        const own = read(run).filter((text) => text.startsWith(name));
        expect(own).toEqual(Array.from({ length: count }, (_, index) => `${name} ${index + 1}`));
      }
    }),
  );
});
