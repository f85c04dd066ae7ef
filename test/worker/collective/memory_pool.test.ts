import { expect, it } from 'vitest';
import { MemoryPool } from '../../../worker/collective/memory_pool.js';

it('hands out what was given back before it makes more, and nothing to two at a time', () => {
  const pool = new MemoryPool(1024);
  const [first, second] = [pool.take(1000), pool.take(1024)];
  expect([first.length, second.length]).toEqual([1000, 1024]);
  expect(first.buffer).not.toBe(second.buffer);
  pool.giveBack(first);
  expect(pool.take(1024).buffer).toBe(first.buffer);
  expect(pool.take(8).buffer).not.toBe(first.buffer);
});
