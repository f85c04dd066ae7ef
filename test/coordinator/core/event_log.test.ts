import fc from 'fast-check';
import { expect, it } from 'vitest';
import { EventLog } from '../../../coordinator/core/event_log.js';
import { emit } from '../../../coordinator/core/turn.js';
import type { JobEvent } from '../../../shared/wire/jobs.js';
import { addJob, leadingState, stepEvent } from '../web/known_jobs.js';

function eventOf(sequence: number, isStep: boolean): JobEvent {
  const loss = sequence % 3 === 0 ? Number.NaN : 1 / sequence;
  if (isStep) return { ...stepEvent(sequence % 7, sequence, loss), skipped: sequence % 2 === 0, stepMs: sequence / 8 };
  return { kind: 'leaderChanged', sequence, timeMs: sequence, job: 'a', term: sequence };
}

/** Steps and others in any order, with numbers apart, and after each how many of the oldest are forgotten. */
const histories = fc.array(
  fc.record({ isStep: fc.boolean(), gap: fc.integer({ min: 1, max: 5 }), forget: fc.constantFrom(0, 0, 0, 1, 4, 100) }),
  { maxLength: 150 },
);

it('keeps events as a list of them would, from any number on', () => {
  fc.assert(
    fc.property(histories, (history) => {
      const log = new EventLog();
      let list: JobEvent[] = [];
      let sequence = 0;
      for (const { isStep, gap, forget } of history) {
        sequence += gap;
        const event = eventOf(sequence, isStep);
        log.add(event);
        list.push(event);
        log.forget(forget);
        list = list.slice(forget);
        expect(log.length).toBe(list.length);
        expect(log.newest).toBe(sequence);
      }
      expect([...log]).toEqual(list);
      for (let from = 0; from <= sequence + 1; from++) {
        expect(log.from(from)).toEqual(list.find((event) => event.sequence >= from));
      }
    }),
    { numRuns: 200 },
  );
});

it('takes no event whose number does not follow', () => {
  const log = new EventLog();
  log.add(eventOf(5, true));
  expect(() => log.add(eventOf(5, false))).toThrow('event 5 comes after 5');
});

it('events are numbered one by one however many revisions etcd has had', () => {
  const state = leadingState(10_000_000_000);
  const run = addJob(state, 'a');
  const { leading } = state;
  if (leading === undefined) throw new Error('it leads');
  const turn = { state, leading, nowMs: 0, wallMs: 0, commands: [] };
  for (let count = 0; count < 9; count++) emit(turn, run, { kind: 'leaderChanged', term: leading.term });
  const numbers = [...run.events].map(({ sequence }) => sequence);
  expect(numbers.every(Number.isSafeInteger)).toBe(true);
  expect(new Set(numbers).size).toBe(9);
});
