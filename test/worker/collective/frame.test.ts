import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PullRequest } from '../../../shared/wire/peer.js';
import { answers, decodeFrame, encodeFrame, floatsOf, HEADER_BYTES } from '../../../worker/collective/frame.js';

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
});
const payloads = fc.uint8Array({ maxLength: 200 });
const statuses = fc.constantFrom('bytes' as const, 'gone' as const, 'unknown' as const);

describe('a frame', () => {
  it('says after the wire what it said before', () => {
    fc.assert(
      fc.property(requests, statuses, fc.maxSafeNat(), payloads, (request, status, offset, payload) => {
        const frame = decodeFrame(encodeFrame(request, status, offset, payload));
        if (typeof frame === 'string') throw new Error(frame);
        expect(answers(frame, request)).toBe(true);
        expect(frame).toMatchObject({ status, offset });
        expect([...frame.payload]).toEqual([...payload]);
      }),
    );
  });

  it('is refused when any bit of it is flipped, or when it is cut', () => {
    fc.assert(
      fc.property(requests, payloads, fc.nat(), (request, payload, at) => {
        const frame = encodeFrame(request, 'bytes', 0, payload);
        const bit = at % (frame.length * 8);
        const damaged = Buffer.from(frame);
        damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        expect(decodeFrame(damaged)).toBeTypeOf('string');
        expect(decodeFrame(frame.subarray(0, at % frame.length))).toBeTypeOf('string');
      }),
    );
  });

  it('answers no other request', () => {
    const all = fc.uniqueArray(requests, { minLength: 2, maxLength: 2, selector: ({ request }) => request });
    fc.assert(
      fc.property(all, ([first, second]) => {
        if (first === undefined || second === undefined) return;
        const frame = decodeFrame(encodeFrame(first, 'gone', 0));
        if (typeof frame === 'string') throw new Error(frame);
        expect(answers(frame, second)).toBe(false);
        for (const field of ['term', 'generation', 'step', 'nodeLo', 'nodeLength', 'bucket', 'segment'] as const) {
          expect(answers(frame, { ...first, [field]: first[field] + 1 })).toBe(false);
        }
      }),
    );
  });

  it('is written into the memory that it is given, when it fits', () => {
    const [request] = fc.sample(requests, 1);
    if (request === undefined) return;
    const memory = Buffer.alloc(HEADER_BYTES + 8);
    expect(encodeFrame(request, 'bytes', 0, Buffer.alloc(8), memory).buffer).toBe(memory.buffer);
    expect(encodeFrame(request, 'bytes', 0, Buffer.alloc(9), memory).buffer).not.toBe(memory.buffer);
  });

  it('has a payload of floats wherever it lies in memory', () => {
    const values = [1.5, -2, Number.NaN, 0.1].map(Math.fround);
    for (let at = 0; at < 8; at++) {
      const memory = Buffer.alloc(64);
      for (const [i, value] of values.entries()) memory.writeFloatLE(value, at + 4 * i);
      expect([...floatsOf(memory.subarray(at, at + 16))]).toEqual(values);
    }
  });
});
