import { expect, it } from 'vitest';
import { PrintBatch } from '../../../worker/io/print_batch.js';

const line = (text: string) => ({ timeMs: 1, stream: 'stdout', text });

it.each([
  ['lines', 'x', 501, 500],
  ['characters', 'x'.repeat(8192), 33, 32],
])('what is more than fits, by %s, is dropped and counted', (_what, text, printed, kept) => {
  const batch = new PrintBatch();
  for (let index = 0; index < printed; index++) batch.add(line(text));
  const lines = batch.take(2);
  expect(lines).toHaveLength(kept + 1);
  expect(lines.at(-1)).toEqual({
    timeMs: 2,
    stream: 'stderr',
    text: '[lockstep: 1 lines were printed too fast and dropped]',
  });
  expect(batch.take(3)).toEqual([]);
});
