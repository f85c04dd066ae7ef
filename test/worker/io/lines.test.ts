import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { readLines } from '../../../worker/io/lines.js';

async function linesOf(chunks: readonly (string | Buffer)[], maxLength: number): Promise<readonly string[]> {
  const stream = new PassThrough();
  const lines: string[] = [];
  readLines(stream, maxLength, (line) => lines.push(line));
  const ended = new Promise((resolve) => stream.once('end', resolve));
  for (const chunk of chunks) stream.write(chunk);
  stream.end();
  await ended;
  return lines;
}

it.each<[string, readonly (string | Buffer)[], readonly string[]]>([
  ['lines', ['a\nbc\n\n'], ['a', 'bc', '']],
  ['a last line without an end', ['a\nb'], ['a', 'b']],
  ['lines in several chunks', ['a', 'b', '\nc', '\n'], ['ab', 'c']],
  ['a line of the greatest length', ['12345\n12345', '\n'], ['12345', '12345']],
  ['a longer one in pieces', ['1234567890123\n', '1'], ['12345', '67890', '123', '1']],
  ['none with half a character', ['1234😀6789😀\n'], ['1234', '😀678', '9😀']],
  ['a character in two chunks', [Buffer.from([0xc3]), Buffer.from([0xa4, 0x0a])], ['ä']],
  ['what is not UTF-8', [Buffer.from([0xff, 0x0a])], ['\ufffd']],
])('%s', async (_, chunks, lines) => {
  expect(await linesOf(chunks, 5)).toEqual(lines);
});

it('a long line that comes a byte at a time is not copied each time', async () => {
  const bytes = 400_000;
  const [line] = await linesOf([...Array.from({ length: bytes }, () => 'x'), '\n'], 2 * bytes);
  expect(line).toHaveLength(bytes);
}, 3_000);
