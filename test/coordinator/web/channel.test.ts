import { expect, it } from 'vitest';
import { Channel } from '../../../coordinator/web/channel.js';

function counting(options: { readonly after?: number; readonly maxKeptBytes?: number } = {}) {
  let value = 0;
  let taken = 0;
  let snapshots = 0;
  const source = {
    takeDelta: () => {
      if (taken === value) return undefined;
      taken = value;
      return { value };
    },
    snapshot: () => ({ all: value, made: ++snapshots }),
  };
  const channel = new Channel({ source, label: { job: 'a' }, kind: 'job', ...options });
  return {
    channel,
    step: () => {
      value += 1;
      return channel.advance();
    },
  };
}

const read = ({ bytes }: { readonly bytes: Buffer }): unknown => JSON.parse(String(bytes));

it('deltas are numbered, and nothing is sent when nothing has changed', () => {
  const { channel, step } = counting();
  expect(channel.advance()).toBeUndefined();
  expect(step()?.number).toBe(1);
  expect(channel.advance()).toBeUndefined();
  const second = step();
  expect(second?.number).toBe(2);
  expect(second && read(second)).toEqual({ kind: 'job_delta', job: 'a', number: 2, data: { value: 2 } });
});

it('a snapshot becomes JSON once for all who come before the next delta', () => {
  const { channel, step } = counting();
  step();
  expect(channel.snapshot()).toBe(channel.snapshot());
  expect(read(channel.snapshot())).toEqual({ kind: 'job_snapshot', job: 'a', number: 1, data: { all: 1, made: 1 } });
  step();
  expect(read(channel.snapshot())).toMatchObject({ number: 2, data: { made: 2 } });
});

it('whoever comes back gets exactly what was missed', () => {
  const { channel, step } = counting();
  for (let count = 0; count < 5; count++) step();
  expect(channel.since(5)).toEqual([]);
  expect(channel.since(3)?.map(({ number }) => number)).toEqual([4, 5]);
  expect(channel.since(0)?.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5]);
});

it('what is not kept any more, or is yet to come, cannot be resumed', () => {
  const { channel, step } = counting({ maxKeptBytes: 200 });
  for (let count = 0; count < 50; count++) step();
  expect(channel.since(10)).toBeUndefined();
  expect(channel.since(51)).toBeUndefined();
  const kept = channel.since(48) ?? [];
  expect(kept.map(({ number }) => number)).toEqual([49, 50]);
});

it('numbers of an earlier channel are never taken for those of this one', () => {
  const { channel, step } = counting({ after: 100 });
  for (const number of [0, 99]) expect(channel.since(number)).toBeUndefined();
  step();
  for (const number of [0, 57, 99]) expect(channel.since(number)).toBeUndefined();
  expect(channel.since(100)).toHaveLength(1);
});
