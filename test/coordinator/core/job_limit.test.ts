import { expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import type { CoordinatorCommand } from '../../../coordinator/core/command.js';
import type { CoordinatorEvent } from '../../../coordinator/core/event.js';
import { type CoordinatorState, DEFAULT_SETTINGS, initialState } from '../../../coordinator/core/state.js';
import { keysOfJob } from '../../../coordinator/io/records.js';
import { addJob, SPEC } from '../web/known_jobs.js';

function fullState(): CoordinatorState {
  const state = initialState({ ...DEFAULT_SETTINGS, name: 'c1', jobLimit: 3 });
  state.leading = { term: 1, eventCounter: 0, operationCounter: 0, saveCounter: 0 };
  for (const [index, job] of ['a', 'b', 'c'].entries()) {
    const run = addJob(state, job);
    run.record = { ...run.record, submittedMs: index };
  }
  return state;
}

function end(state: CoordinatorState, ...jobs: readonly string[]): void {
  for (const job of jobs) {
    const run = state.jobs.get(job);
    if (run !== undefined) run.record = { ...run.record, state: 'finished' };
  }
}

function tell(state: CoordinatorState, event: CoordinatorEvent): readonly CoordinatorCommand[] {
  return apply(state, { nowMs: 10, wallMs: 10, event });
}

function submit(state: CoordinatorState, job: string): readonly CoordinatorCommand[] {
  const submitted = { operationId: job, spec: SPEC, bundle: '/b', output: '/o', checkpoints: '/c', user: 'ann' };
  return tell(state, { kind: 'submit', request: `r-${job}`, job, submit: submitted });
}

const writeOf = (commands: readonly CoordinatorCommand[]) => {
  const write = commands.find((one) => one.kind === 'write');
  if (write === undefined) throw new Error('nothing is written');
  return write;
};

it('where none has ended there is no room for another job', () => {
  const [command] = submit(fullState(), 'd');
  const message = 'there are 3 jobs already, and none of them has ended';
  expect(command).toEqual({ kind: 'reply_error', request: 'r-d', code: 'exhausted', message });
});

it('the oldest that has ended makes room, in the same write', () => {
  const state = fullState();
  end(state, 'b', 'c');
  const write = writeOf(submit(state, 'd'));
  expect(write.forgets).toEqual(['b']);
  expect(state.jobs.has('b')).toBe(true);
  tell(state, { kind: 'write_stored', operation: write.operation });
  expect([...state.jobs.keys()]).toEqual(['a', 'c', 'd']);
});

it('two that come at once are given room by two', () => {
  const state = fullState();
  end(state, 'b', 'c');
  const writes = [writeOf(submit(state, 'd')), writeOf(submit(state, 'e'))];
  expect(writes.map(({ forgets }) => forgets)).toEqual([['b'], ['c']]);
  expect(submit(state, 'f')).toMatchObject([{ kind: 'reply_error', code: 'exhausted' }]);
  for (const { operation } of writes) tell(state, { kind: 'write_stored', operation });
  expect([...state.jobs.keys()]).toEqual(['a', 'd', 'e']);
});

it('a write that fails makes no room', () => {
  const state = fullState();
  end(state, 'b');
  tell(state, { kind: 'write_failed', operation: writeOf(submit(state, 'd')).operation, reason: 'x' });
  expect([...state.jobs.keys()]).toEqual(['a', 'b', 'c']);
  expect(writeOf(submit(state, 'd')).forgets).toEqual(['b']);
});

it('all that etcd has of a job goes', () => {
  expect(keysOfJob('a')).toEqual(['jobs/a', 'generations/a', 'checkpoints/a']);
});
