import { describe, expect, it } from 'vitest';
import { decodeHuffman } from '../../../../worker/collective/http2/huffman.js';

describe("HPACK's Huffman code", () => {
  // Examples of RFC 7541, appendix C.
  it.each([
    ['f1e3c2e5f23a6ba0ab90f4ff', 'www.example.com'],
    ['a8eb10649cbf', 'no-cache'],
    ['25a849e95ba97d7f', 'custom-key'],
    ['25a849e95bb8e8b4bf', 'custom-value'],
    ['6402', '302'],
    ['aec3771a4b', 'private'],
    ['d07abe941054d444a8200595040b8166e082a62d1bff', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['9d29ad171863c78f0b97c8e9ae82ae43d3', 'https://www.example.com'],
    ['', ''],
  ])('%s is %j', (coded, text) => {
    expect(decodeHuffman(Buffer.from(coded, 'hex'))).toBe(text);
  });

  it.each([
    ['the code of the end', 'ffffffff'],
    ['a whole octet of padding', '6402ff'],
    ['padding of zeros', '08'],
  ])('refuses %s', (_name, coded) => {
    expect(decodeHuffman(Buffer.from(coded, 'hex'))).toBeUndefined();
  });
});
