import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignedTo, countOf, enter, leave, move } from '../../../coordinator/core/assignment.js';
import { DEFAULT_SETTINGS, initialState } from '../../../coordinator/core/state.js';
import { knownWorker } from './known_worker.js';

const JOBS = [undefined, 'j1', 'j2'];

describe('workers by job', () => {
  it('are those of all workers that have the job, whoever comes, returns, changes and goes', () => {
    const act = fc.tuple(fc.constantFrom('enter', 'leave', 'move'), fc.nat({ max: 4 }), fc.constantFrom(...JOBS));
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const state = initialState({ ...DEFAULT_SETTINGS, name: 'c1' });
        for (const [kind, number, job] of acts) {
          const known = state.workers.get(`w${number}`);
          if (kind === 'enter') enter(state, knownWorker(`w${number}`, job));
          else if (known !== undefined && kind === 'leave') leave(state, known);
          else if (known !== undefined) move(state, known, job);
          for (const one of JOBS) {
            const expected = [...state.workers.values()].filter((other) => other.job === one);
            expect(new Set(assignedTo(state, one))).toEqual(new Set(expected));
            expect(countOf(state, one)).toBe(expected.length);
          }
        }
        expect([...state.byJob.values()].every((some) => some.size > 0)).toBe(true);
      }),
    );
  });
});
