/** Cuts a stream of bytes into lines of bounded length. */
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/** Pieces of a line that are kept apart: whoever writes a byte at a time must not make us copy the line so far each time. */
const MOST_PIECES = 4096;

/**
 * Calls `onLine` for each line, without its end. A line longer than `maxLength` is given in pieces, so that a program that prints
 * without ever ending a line takes bounded memory. Bytes that are not UTF-8 become replacement characters.
 */
export function readLines(stream: Readable, maxLength: number, onLine: (line: string) => void): void {
  const decoder = new StringDecoder('utf8');
  let pieces: string[] = [];
  let length = 0;
  const keep = (piece: string): void => {
    pieces.push(piece);
    length += piece.length;
    if (pieces.length >= MOST_PIECES) pieces = [pieces.join('')];
  };
  const end = (): void => {
    const line = pieces.join('');
    pieces = [];
    length = 0;
    onLine(line);
  };
  const take = (text: string): void => {
    let at = 0;
    while (at < text.length) {
      const found = text.indexOf('\n', at);
      const stop = found < 0 ? text.length : found;
      const room = maxLength - length;
      if (stop - at > room) {
        keep(text.slice(at, at + room));
        at += room;
        end();
      } else {
        keep(text.slice(at, stop));
        at = stop + 1;
        if (found >= 0) end();
      }
    }
  };
  stream.on('data', (chunk: Buffer) => take(decoder.write(chunk)));
  stream.on('end', () => {
    take(decoder.end());
    if (length > 0) end();
  });
  stream.on('error', () => undefined);
}
