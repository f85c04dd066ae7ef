/** HPACK's Huffman code. https://www.rfc-editor.org/rfc/rfc7541#section-5.2 */

/**
 * How many bits the code of each octet has, in base 36 (Appendix B of the RFC). The code is canonical: codes of one length follow each
 * other in the order of the octets, and shorter ones come before longer ones, so the lengths say all of it.
 */
const BITS_OF_OCTETS =
  'dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca' +
  'd67777777777777777777777878djde6f56565666577666567655677777fbeds' +
  'kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn' +
  'qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq';
const LONGEST_CODE_BITS = 30;
/** Octets are padded with the most significant bits of a code of ones only, fewer than a whole octet of them. */
const MOST_PADDING_BITS = 7;

interface CodesOfLength {
  readonly first: number;
  readonly octets: readonly number[];
}

const CODES = codesByLength();

function codesByLength(): readonly CodesOfLength[] {
  const codes: CodesOfLength[] = [];
  for (let bits = 0, next = 0; bits <= LONGEST_CODE_BITS; bits++, next *= 2) {
    const octets = [...BITS_OF_OCTETS].flatMap((digit, octet) => (Number.parseInt(digit, 36) === bits ? [octet] : []));
    codes.push({ first: next, octets });
    next += octets.length;
  }
  return codes;
}

/** The text that was coded; undefined if the bytes are no such code. */
export function decodeHuffman(coded: Buffer): string | undefined {
  const octets: number[] = [];
  let code = 0;
  let bits = 0;
  for (const byte of coded) {
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + ((byte >> bit) & 1);
      bits++;
      const octet = octetOf(code, bits);
      if (octet !== undefined) {
        octets.push(octet);
        code = 0;
        bits = 0;
      } else if (bits >= LONGEST_CODE_BITS) return undefined;
    }
  }
  const isPadding = bits <= MOST_PADDING_BITS && code === 2 ** bits - 1;
  return isPadding ? Buffer.from(octets).toString('latin1') : undefined;
}

function octetOf(code: number, bits: number): number | undefined {
  const codes = CODES[bits];
  return codes?.octets[code - codes.first];
}
