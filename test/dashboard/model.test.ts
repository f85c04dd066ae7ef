import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Channel, type ChannelMessage } from '../../coordinator/web/channel.js';
import { Histories } from '../../coordinator/web/histories.js';
import { JobSource } from '../../coordinator/web/job_source.js';
import { applied, type Model, NO_MODEL } from '../../dashboard/model.js';
import { parseServerMessage } from '../../shared/wire/dashboard.js';
import { addJob, addStep, leadingState, logEntry } from '../coordinator/web/known_jobs.js';

function courseOfJob() {
  const state = leadingState();
  const run = addJob(state, 'a');
  const histories = new Histories();
  const history = histories.read(run, state.jobs);
  if (history === undefined) throw new Error('no history');
  const channel = new Channel({ source: new JobSource(state, run, history), label: { job: 'a' }, kind: 'job' });
  let step = 0;
  return {
    channel,
    steps: (count: number, back: number) => {
      step = Math.max(0, step - back);
      for (let index = 0; index < count; index++) addStep(run, step++);
      run.logs.lines.push(logEntry(step, `at ${step}`));
      histories.read(run, state.jobs);
    },
  };
}

const told = (model: Model, { bytes }: ChannelMessage): Model => applied(model, parseServerMessage(String(bytes)));

it('a page that came early, one that came late and one that came back know the same', () => {
  const turn = fc.record({ count: fc.integer({ min: 1, max: 900 }), back: fc.constantFrom(0, 0, 0, 1, 40) });
  fc.assert(
    fc.property(fc.array(turn, { minLength: 1, maxLength: 12 }), fc.nat(11), (turns, awayAt) => {
      const { channel, steps } = courseOfJob();
      let early = told(NO_MODEL, channel.snapshot());
      let back = early;
      turns.forEach(({ count, back: redone }, index) => {
        steps(count, redone);
        const delta = channel.advance();
        if (delta === undefined) return;
        early = told(early, delta);
        if (index < awayAt) back = told(back, delta);
      });
      const missed = channel.since(back.job?.number ?? 0);
      back = missed === undefined ? told(back, channel.snapshot()) : missed.reduce(told, back);
      const late = told(NO_MODEL, channel.snapshot());
      expect(early.job).toEqual(late.job);
      expect(back.job).toEqual(late.job);
    }),
    { numRuns: 30 },
  );
});

it('what is said twice is shown once', () => {
  const { channel, steps } = courseOfJob();
  let model = told(NO_MODEL, channel.snapshot());
  steps(3, 0);
  const delta = channel.advance();
  if (delta === undefined) throw new Error('no delta');
  model = told(model, delta);
  expect(told(model, delta)).toEqual(model);
});

it('deltas of a job that is not looked at any more change nothing', () => {
  const { channel, steps } = courseOfJob();
  steps(1, 0);
  const delta = channel.advance();
  if (delta === undefined) throw new Error('no delta');
  expect(told(NO_MODEL, delta)).toEqual(NO_MODEL);
});
