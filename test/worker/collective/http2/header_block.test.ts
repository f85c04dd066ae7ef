import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeHeaderBlock, encodeHeaderBlock } from '../../../../worker/collective/http2/header_block.js';

const decoded = (hex: string) => {
  const headers = decodeHeaderBlock(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
  return headers === undefined ? undefined : Object.fromEntries(headers);
};

const latin1 = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes).toString('latin1'));

describe('a header block', () => {
  it('comes back as it was', () => {
    const blocks = fc.uniqueArray(fc.tuple(latin1, latin1), { selector: ([name]) => name, maxLength: 8 });
    fc.assert(
      fc.property(blocks, (entries) => {
        const headers = new Map(entries);
        expect(decodeHeaderBlock(encodeHeaderBlock(headers))).toEqual(headers);
      }),
    );
  });

  // Examples of RFC 7541, appendix C.
  it.each([
    ['literals', '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572', { 'custom-key': 'custom-header' }],
    ['a name of the table', '040c 2f73 616d 706c 652f 7061 7468', { ':path': '/sample/path' }],
    ['what is never to be kept', '1008 7061 7373 776f 7264 0673 6563 7265 74', { password: 'secret' }],
    ['entries of the table', '8286 84', { ':method': 'GET', ':scheme': 'http', ':path': '/' }],
    ['Huffman code', '418c f1e3 c2e5 f23a 6ba0 ab90 f4ff', { ':authority': 'www.example.com' }],
    ['a table of size 0', '20 88', { ':status': '200' }],
    ['the last entry of the table', '0f2e 0161', { 'www-authenticate': 'a' }],
  ])('is read with %s', (_name, hex, headers) => {
    expect(decoded(hex)).toEqual(headers);
  });

  it.each([
    ['index 0', '80'],
    ['an entry that only a table of earlier headers would have', 'be'],
    ['a larger table', '21'],
    ['a name without a value', '0001 61'],
    ['a value longer than the block', '0001 6105 62'],
    ['a number without an end', '7fff'],
    ['a number too long for anything', 'ff80 8080 8080 01'],
    ['no Huffman code', '0001 6184 ffff ffff'],
  ])('is refused with %s', (_name, hex) => {
    expect(decoded(hex)).toBeUndefined();
  });

  it('is headers or nothing, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const headers = decodeHeaderBlock(Buffer.from(bytes));
        expect(headers === undefined || headers instanceof Map).toBe(true);
      }),
    );
  });
});
