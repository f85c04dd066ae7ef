import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PullRequest } from '../../../shared/wire/peer.js';
import {
  answers,
  decodeHeader,
  encodeHeader,
  type FrameHeader,
  HEADER_BYTES,
} from '../../../worker/collective/frame.js';
import { FrameReader } from '../../../worker/collective/frame_reader.js';
import { PREFIX_BYTES, writePrefix } from '../../../worker/collective/grpc_wire.js';

const uint16 = fc.integer({ min: 0, max: 0xffff });
const uint32 = fc.integer({ min: 0, max: 0xffffffff });
const requests: fc.Arbitrary<PullRequest> = fc.record({
  request: uint32,
  kind: fc.constantFrom('partial', 'reduced', 'facts', 'state', 'stateFacts'),
  job: fc.string({ maxLength: 20 }),
  term: fc.maxSafeNat(),
  generation: uint32,
  step: uint32,
  nodeLo: uint16,
  nodeLength: uint16,
  bucket: uint32,
  segment: uint32,
  segments: uint32,
  offset: fc.maxSafeNat(),
  length: fc.maxSafeNat(),
  worker: fc.constant('w'),
  incarnation: fc.constant('i'),
  sameHost: fc.boolean(),
});
const payloads = fc.uint8Array({ maxLength: 200 });
const statuses = fc.constantFrom('bytes' as const, 'gone' as const, 'unknown' as const, 'here' as const);

const MOST_BYTES = 1000;

/** A frame as it goes on the wire. */
function message(request: PullRequest, status: FrameHeader['status'], offset: number, payload: Uint8Array): Buffer {
  const whole = Buffer.alloc(PREFIX_BYTES + HEADER_BYTES + payload.length);
  writePrefix(whole, HEADER_BYTES + payload.length);
  encodeHeader(whole.subarray(PREFIX_BYTES), request, status, offset, payload);
  whole.set(payload, PREFIX_BYTES + HEADER_BYTES);
  return whole;
}

interface Read {
  readonly frames: { readonly header: FrameHeader; readonly payload: Buffer }[];
  refused: string | undefined;
}

/** What a reader makes of a stream that comes in pieces of the given lengths, over and over. */
function readIn(
  stream: Buffer,
  lengths: readonly number[],
  memory?: (header: FrameHeader) => Buffer | undefined,
): Read {
  const read: Read = { frames: [], refused: undefined };
  const reader = new FrameReader(MOST_BYTES, {
    memoryFor: memory ?? ((header) => Buffer.alloc(header.length)),
    frameArrived: (header, payload) => read.frames.push({ header, payload: Buffer.from(payload) }),
    frameRefused: (reason) => (read.refused = reason),
  });
  for (let at = 0, piece = 0; at < stream.length; piece++) {
    const length = lengths[piece % lengths.length] ?? 1;
    reader.push(stream.subarray(at, at + length));
    at += length;
  }
  return read;
}

describe('a frame', () => {
  it('says after the wire what it said before, however the stream is cut', () => {
    const frames = fc.array(fc.tuple(requests, statuses, fc.maxSafeNat(), payloads), { minLength: 1, maxLength: 5 });
    const cuts = fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(frames, cuts, (sent, lengths) => {
        const { frames: read, refused } = readIn(Buffer.concat(sent.map((frame) => message(...frame))), lengths);
        expect(refused).toBeUndefined();
        expect(read.length).toBe(sent.length);
        sent.forEach(([request, status, offset, payload], index) => {
          const frame = read[index];
          expect(frame?.header).toMatchObject({ status, offset });
          expect(frame !== undefined && answers(frame.header, request)).toBe(true);
          expect(frame?.payload.equals(payload)).toBe(true);
        });
      }),
    );
  });

  it('is refused when any bit of it is flipped, and nothing after it is read', () => {
    fc.assert(
      fc.property(requests, payloads, fc.nat(), (request, payload, at) => {
        const frame = message(request, 'bytes', 0, payload);
        const bit = at % (frame.length * 8);
        const damaged = Buffer.from(frame);
        damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        const { frames, refused } = readIn(Buffer.concat([damaged, frame]), [64]);
        expect(refused).toBeTypeOf('string');
        expect(frames).toEqual([]);
      }),
    );
  });

  it('is not there before its last byte, and is refused when it is longer than allowed', () => {
    const [request] = fc.sample(requests, 1);
    if (request === undefined) throw new Error('nothing was made');
    const frame = message(request, 'bytes', 0, Buffer.alloc(MOST_BYTES));
    expect(readIn(frame.subarray(0, frame.length - 1), [100])).toEqual({ frames: [], refused: undefined });
    expect(readIn(frame, [100]).frames.length).toBe(1);
    expect(readIn(message(request, 'bytes', 0, Buffer.alloc(MOST_BYTES + 1)), [100]).refused).toBe('length');
  });

  it('that nobody has memory for is passed over', () => {
    const [first, second] = fc.sample(requests, 2);
    if (first === undefined || second === undefined) throw new Error('nothing was made');
    const stream = Buffer.concat([
      message(first, 'bytes', 0, Buffer.alloc(99)),
      message(second, 'gone', 7, Buffer.alloc(0)),
    ]);
    const memory = ({ status, length }: FrameHeader): Buffer | undefined =>
      status === 'bytes' ? undefined : Buffer.alloc(length);
    const { frames, refused } = readIn(stream, [10], memory);
    expect(refused).toBeUndefined();
    expect(frames.map(({ header }) => header.status)).toEqual(['gone']);
  });

  it('answers no other request', () => {
    const all = fc.uniqueArray(requests, { minLength: 2, maxLength: 2, selector: ({ request }) => request });
    fc.assert(
      fc.property(all, ([first, second]) => {
        if (first === undefined || second === undefined) return;
        const header = Buffer.alloc(HEADER_BYTES);
        encodeHeader(header, first, 'gone', 0, Buffer.alloc(0));
        const frame = decodeHeader(header);
        if (typeof frame === 'string') throw new Error(frame);
        expect(answers(frame, second)).toBe(false);
        for (const field of ['term', 'generation', 'step', 'nodeLo', 'nodeLength', 'bucket', 'segment'] as const) {
          expect(answers(frame, { ...first, [field]: first[field] + 1 })).toBe(false);
        }
      }),
    );
  });
});
