/** Cuts a stream of bytes into lines of bounded length. */
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/**
 * Calls `onLine` for each line, without its end. A line longer than `maxLength` is given in pieces, so that a program that prints
 * without ever ending a line takes bounded memory. Bytes that are not UTF-8 become replacement characters.
 */
export function readLines(stream: Readable, maxLength: number, onLine: (line: string) => void): void {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  const take = (text: string): void => {
    rest += text;
    for (let end = rest.indexOf('\n'); end >= 0 || rest.length > maxLength; end = rest.indexOf('\n')) {
      const cut = end >= 0 && end <= maxLength ? end : maxLength;
      onLine(rest.slice(0, cut));
      rest = rest.slice(cut === end ? cut + 1 : cut);
    }
  };
  stream.on('data', (chunk: Buffer) => take(decoder.write(chunk)));
  stream.on('end', () => {
    take(decoder.end());
    if (rest !== '') onLine(rest);
    rest = '';
  });
  stream.on('error', () => undefined);
}
