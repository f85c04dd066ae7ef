/** Bytes that are nearly right: valid ones with a few changes, so that they get past the first look at them. */
import fc from 'fast-check';

const MOST_CHANGES = 4;
const LONGEST_INSERT = 64;
/** Numbers at which lengths, windows and counters turn. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x3fff, 0x4000, 0x4001, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

interface Change {
  readonly kind: 'flip' | 'cut' | 'repeat' | 'insert' | 'edge' | 'zero';
  /** Where, as a share of the length. */
  readonly at: number;
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly edge: number;
}

const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom('flip', 'cut', 'repeat', 'insert', 'edge', 'zero'),
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  length: fc.integer({ min: 1, max: LONGEST_INSERT }),
  bytes: fc.uint8Array({ minLength: 1, maxLength: LONGEST_INSERT }),
  edge: fc.constantFrom(...EDGES),
});

function changed(bytes: Buffer, { kind, at, length, bytes: inserted, edge }: Change): Buffer {
  const place = Math.floor(at * bytes.length);
  const copy = Buffer.from(bytes);
  switch (kind) {
    case 'flip':
      if (copy.length > 0) copy[place] = (copy[place] ?? 0) ^ (1 << (length % 8));
      return copy;
    case 'cut':
      return Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + length)]);
    case 'repeat':
      return Buffer.concat([bytes.subarray(0, place + length), bytes.subarray(place)]);
    case 'insert':
      return Buffer.concat([bytes.subarray(0, place), inserted, bytes.subarray(place)]);
    case 'edge':
      if (place + 4 <= copy.length) copy.writeUInt32BE(edge, place);
      return copy;
    case 'zero':
      return copy.fill(0, place, Math.min(place + length, copy.length));
  }
}

/** Sometimes unchanged: what follows must be reached. */
export function nearly(valid: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return fc
    .tuple(valid, fc.array(change, { maxLength: MOST_CHANGES }))
    .map(([bytes, changes]) => changes.reduce(changed, bytes));
}

export const anyBytes: fc.Arbitrary<Buffer> = fc
  .uint8Array({ maxLength: 2048 })
  .map((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
