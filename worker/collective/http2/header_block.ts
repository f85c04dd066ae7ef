/**
 * Header blocks of HTTP/2, for an end that keeps no table of earlier headers and says so in its settings (HPACK with a dynamic table of
 * size 0): then each block stands for itself. https://www.rfc-editor.org/rfc/rfc7541
 */
import { decodeHuffman } from './huffman.js';

export type Headers = ReadonlyMap<string, string>;

/** The RFC's Appendix A, from index 1. */
const STATIC_TABLE: readonly (readonly [name: string, value: string])[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  ...['200', '204', '206', '304', '400', '404', '500'].map((status) => [':status', status] as const),
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ...[
    'accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control',
    'content-disposition content-encoding content-language content-length content-location content-range content-type',
    'cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since',
    'last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after',
    'server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate',
  ].flatMap((names) => names.split(' ').map((name) => [name, ''] as const)),
];

/** First bytes of the representations, and how many of their bits begin a number. */
const INDEXED = { mark: 0x80, numberBits: 7 };
const WITH_INDEXING = { mark: 0x40, numberBits: 6 };
const TABLE_SIZE = { mark: 0x20, numberBits: 5 };
/** Literals that are not to be kept; some are marked as never to be kept by anyone. */
const LITERAL_NUMBER_BITS = 4;
const STRING_NUMBER_BITS = 7;
const HUFFMAN = 0x80;
/** Numbers of more bytes than these are no lengths of anything that fits a frame. */
const MOST_NUMBER_BYTES = 4;

/** Each header as a literal that nobody keeps. */
export function encodeHeaderBlock(headers: Headers): Buffer {
  const parts = [...headers].flatMap(([name, value]) => [Buffer.of(0), encodeString(name), encodeString(value)]);
  return Buffer.concat(parts);
}

function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([encodeNumber(bytes.length), bytes]);
}

function encodeNumber(value: number): Buffer {
  const most = 2 ** STRING_NUMBER_BITS - 1;
  if (value < most) return Buffer.of(value);
  const bytes = [most];
  let rest = value - most;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** The headers of a block, of equal names the last; undefined if it is malformed, or refers to what only a table would have. */
export function decodeHeaderBlock(block: Buffer): Headers | undefined {
  try {
    return new BlockReader(block).read();
  } catch (error) {
    if (error instanceof MalformedBlock) return undefined;
    throw error;
  }
}

class MalformedBlock extends Error {}

class BlockReader {
  #at = 0;

  constructor(private readonly block: Buffer) {}

  read(): Headers {
    const headers = new Map<string, string>();
    while (this.#at < this.block.length) {
      const first = this.block[this.#at] ?? 0;
      if ((first & INDEXED.mark) !== 0) {
        headers.set(...entryAt(this.#number(INDEXED.numberBits)));
      } else if ((first & WITH_INDEXING.mark) !== 0) {
        this.#literal(headers, WITH_INDEXING.numberBits);
      } else if ((first & TABLE_SIZE.mark) !== 0) {
        if (this.#number(TABLE_SIZE.numberBits) !== 0) throw new MalformedBlock();
      } else {
        this.#literal(headers, LITERAL_NUMBER_BITS);
      }
    }
    return headers;
  }

  #literal(headers: Map<string, string>, numberBits: number): void {
    const index = this.#number(numberBits);
    const name = index === 0 ? this.#string() : entryAt(index)[0];
    headers.set(name, this.#string());
  }

  #string(): string {
    const isCoded = (this.#byte() & HUFFMAN) !== 0;
    this.#at--;
    const length = this.#number(STRING_NUMBER_BITS);
    const bytes = this.block.subarray(this.#at, this.#at + length);
    if (bytes.length < length) throw new MalformedBlock();
    this.#at += length;
    const text = isCoded ? decodeHuffman(bytes) : bytes.toString('latin1');
    if (text === undefined) throw new MalformedBlock();
    return text;
  }

  #number(bits: number): number {
    const most = 2 ** bits - 1;
    let value = this.#byte() & most;
    if (value < most) return value;
    for (let count = 0; count < MOST_NUMBER_BYTES; count++) {
      const byte = this.#byte();
      value += (byte & 127) * 128 ** count;
      if (byte < 128) return value;
    }
    throw new MalformedBlock();
  }

  #byte(): number {
    const byte = this.block[this.#at++];
    if (byte === undefined) throw new MalformedBlock();
    return byte;
  }
}

function entryAt(index: number): readonly [name: string, value: string] {
  const entry = STATIC_TABLE[index - 1];
  if (entry === undefined) throw new MalformedBlock();
  return entry;
}
