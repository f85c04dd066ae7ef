/** What a client sends on an HTTP/2 connection: frames of all kinds, in any order, and calls with messages. */
import fc from 'fast-check';
import { withPrefix } from '../../worker/collective/grpc_wire.js';
import {
  encodeFrame,
  encodeSettings,
  encodeWindowUpdate,
  flag,
  frameType,
  PREFACE,
} from '../../worker/collective/http2/frames.js';
import { encodeHeaderBlock } from '../../worker/collective/http2/header_block.js';
import { anyBytes, nearly } from './mutations.js';

const MOST_FRAMES = 24;
const STREAMS = [0, 1, 2, 3, 5, 7, 0x7fffffff];
const number32 = fc.oneof(fc.constantFrom(0, 1, 16_384, 65_535, 0x7fffffff, 0xffffffff), fc.nat());

/** Of a call that is as it should be. */
export function callHeaders(path: string): ReadonlyMap<string, string> {
  return new Map([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'localhost'],
    ['te', 'trailers'],
    ['content-type', 'application/grpc+proto'],
  ]);
}

function headersFor(path: string): fc.Arbitrary<Buffer> {
  const odd = fc.constantFrom<readonly [string, string]>(
    ['x', 'y'.repeat(4_000)],
    ['grpc-timeout', '1n'],
    ['grpc-timeout', '99999999999S'],
    ['grpc-encoding', 'gzip'],
    ['content-length', '-1'],
    ['transfer-encoding', 'chunked'],
    ['connection', 'close'],
    [':method', 'CONNECT'],
    [':path', '/'],
    ['X-Upper', '1'],
    ['', ''],
    ['te', 'gzip'],
    ['content-type', 'text/html'],
    ['lockstep-bin', '%%%'],
  );
  return fc.array(odd, { maxLength: 3 }).map((more) => {
    return encodeHeaderBlock(new Map([...callHeaders(path), ...more]));
  });
}

function frameOf(path: string, messages: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const stream = fc.constantFrom(...STREAMS);
  const flags = fc.constantFrom(
    0,
    flag.endStream,
    flag.endHeaders,
    flag.endStream | flag.endHeaders,
    flag.padded,
    0xff,
  );
  const settings = fc
    .array(fc.tuple(fc.integer({ min: 0, max: 8 }), number32), { maxLength: 6 })
    .map((pairs) => encodeSettings(new Map(pairs)));
  const headers = fc
    .tuple(stream, flags, headersFor(path))
    .map(([number, bits, block]) => encodeFrame(frameType.headers, bits, number, block));
  const data = fc
    .tuple(stream, flags, messages)
    .map(([number, bits, message]) =>
      encodeFrame(frameType.data, bits, number, withPrefix(message).subarray(0, 16_384)),
    );
  const odd = fc
    .tuple(fc.integer({ min: 0, max: 12 }), flags, stream, anyBytes)
    .map(([type, bits, number, payload]) => encodeFrame(type, bits, number, payload));
  const window = fc.tuple(stream, number32).map(([number, bytes]) => encodeWindowUpdate(number, bytes));
  return fc.oneof(headers, data, settings, window, odd);
}

const START = Buffer.concat([PREFACE, encodeSettings(new Map())]);

/** A connection of frames in any order. */
export function anyFrames(path: string, messages: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const frames = fc.array(frameOf(path, messages), { maxLength: MOST_FRAMES });
  return nearly(frames.map((all) => Buffer.concat([START, ...all])));
}

/** A connection with one call as it should be, but for its messages. */
export function callWith(path: string, messages: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const block = encodeHeaderBlock(callHeaders(path));
  return fc
    .tuple(fc.array(messages, { maxLength: 6 }), fc.boolean())
    .map(([all, ends]) =>
      Buffer.concat([
        START,
        encodeFrame(frameType.headers, flag.endHeaders, 1, block),
        ...all.map((message) => encodeFrame(frameType.data, 0, 1, withPrefix(message).subarray(0, 16_384))),
        ...(ends ? [encodeFrame(frameType.data, flag.endStream, 1, Buffer.alloc(0))] : []),
      ]),
    );
}
