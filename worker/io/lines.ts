/** Cuts a stream of bytes into lines of bounded length. */
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/** Pieces of a line that are kept apart: whoever writes a byte at a time must not make us copy the line so far each time. */
const MOST_PIECES = 4096;

/** Half a character of UTF-16 is none in UTF-8. */
function isFirstOfPair(code: number): boolean {
  return code >= 0xd800 && code < 0xdc00;
}

/**
 * Calls `onLine` for each line, without its end. A line longer than `maxLength` is given in pieces, so that a program that prints
 * without ever ending a line takes bounded memory. Bytes that are not UTF-8 become replacement characters. Returns what gives the line
 * that has begun and has no end yet, if there is one.
 */
export function readLines(stream: Readable, maxLength: number, onLine: (line: string) => void): () => void {
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
        const cut = at + room - (isFirstOfPair(text.charCodeAt(at + room - 1)) ? 1 : 0);
        keep(text.slice(at, cut));
        at = cut;
        end();
      } else {
        keep(text.slice(at, stop));
        at = stop + 1;
        if (found >= 0) end();
      }
    }
  };
  const endBegun = (): void => {
    if (length > 0) end();
  };
  stream.on('data', (chunk: Buffer) => take(decoder.write(chunk)));
  stream.on('end', () => {
    take(decoder.end());
    endBegun();
  });
  stream.on('error', () => undefined);
  return endBegun;
}
