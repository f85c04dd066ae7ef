import { expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import { emitEnd } from '../../../coordinator/core/ending.js';
import { forget } from '../../../coordinator/core/recently_ended.js';
import { type CoordinatorState, DEFAULT_SETTINGS, initialState, type JobRun } from '../../../coordinator/core/state.js';
import type { Turn } from '../../../coordinator/core/turn.js';
import { addJob, addStep, addWorker, leadingState } from '../web/known_jobs.js';

const line = { timeMs: 0, stream: 'stdout', text: 'x', attempt: 1, generation: 1, step: 0, number: 1 };

function say(state: CoordinatorState, session: string, job: string): void {
  const message = { kind: 'logLines', job, lines: [line] } as const;
  apply(state, { nowMs: 0, wallMs: 0, event: { kind: 'session_message', session, message } });
}

function ended(turn: Turn, job: string): JobRun {
  const run = addJob(turn.state, job);
  addStep(run, 0);
  const session = turn.state.workers.get('w0')?.session ?? '';
  turn.state.sessions.set(session, 'w0');
  say(turn.state, session, job);
  run.record = { ...run.record, state: 'finished' };
  emitEnd(turn, run);
  return run;
}

const kindsOf = (run: JobRun | undefined) => [...(run?.events ?? [])].map(({ kind }) => kind);

it('of the job that ended before the latest hundred only the end is kept, and nothing is added to it', () => {
  const state = leadingState();
  const { leading } = state;
  if (leading === undefined) throw new Error('it leads');
  addWorker(state, 'w0');
  const turn = { state, leading, nowMs: 0, wallMs: 0, commands: [] };
  const runs = Array.from({ length: 101 }, (_, index) => ended(turn, `job${index}`));
  const [first, second] = runs;
  expect(kindsOf(first)).toEqual(['jobFinished']);
  expect([first?.logs.lines.length, first?.logs.dropped, first?.logs.bytes]).toEqual([0, 1, 0]);
  expect(kindsOf(second)).toEqual(['stepCommitted', 'jobFinished']);
  addWorker(state, 'w1');
  const session = state.workers.get('w1')?.session ?? '';
  state.sessions.set(session, 'w1');
  for (const job of ['job0', 'job1']) {
    say(state, session, job);
  }
  expect([first?.logs.lines.length, second?.logs.lines.length]).toEqual([0, 2]);
});

it('a coordinator that leads no more forgets all', () => {
  const state = initialState({ ...DEFAULT_SETTINGS, name: 'c1' });
  state.leading = { term: 1, eventCounter: 0, operationCounter: 0, saveCounter: 0 };
  addWorker(state, 'w0');
  ended({ state, leading: state.leading, nowMs: 0, wallMs: 0, commands: [] }, 'a');
  apply(state, { nowMs: 0, wallMs: 0, event: { kind: 'deposed' } });
  expect(state.recentlyEnded).toEqual([]);
});

it('nothing is left of a job that makes room for another one, its printed lines neither', () => {
  const state = leadingState();
  const { leading } = state;
  if (leading === undefined) throw new Error('it leads');
  addWorker(state, 'w0');
  ended({ state, leading, nowMs: 0, wallMs: 0, commands: [] }, 'a');
  expect(state.logBytes).toBeGreaterThan(0);
  forget(state, 'a');
  expect([state.logBytes, state.recentlyEnded, state.jobs.size]).toEqual([0, [], 0]);
});
