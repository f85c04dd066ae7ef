import { expect, test } from 'vitest';
import { eventFolder, eventKey, jobKey, operationKey, workerKey } from '../../../shared/etcd/keys.js';

test('the order of event keys is the order of events', () => {
  const sequences = [0, 9, 10, 99, 100, 1_000_000, Number.MAX_SAFE_INTEGER];
  const keys = sequences.map((sequence) => eventKey('job', sequence));
  expect([...keys].sort()).toEqual(keys);
  expect(keys.every((key) => key.startsWith(eventFolder('job')))).toBe(true);
});

test.each(['', 'a/b', '../x', 'a\0', 'ä', 'x'.repeat(129)])('a name such as %j cannot leave its folder', (name) => {
  expect(() => workerKey(name)).toThrow(RangeError);
  expect(() => jobKey(name)).toThrow(RangeError);
});

test.each([-1, 1.5, Number.NaN, 2 ** 53])('%d is not a sequence number or a term', (number) => {
  expect(() => eventKey('job', number)).toThrow(RangeError);
  expect(() => operationKey(number)).toThrow(RangeError);
});
