/**
 * The raw frames that answer a pull: a header of 51 bytes, then the payload. The layout is in proto/peer.proto.
 *
 * gRPC puts 5 bytes before a message, so the payload of a received one begins at a multiple of 8 of its memory and can be added
 * from where it lies.
 */
import { crc32 } from 'node:zlib';
import type { PullRequest } from '../../shared/wire/peer.js';

export const HEADER_BYTES = 51;
const VERSION = 1;
const CRC_AT = HEADER_BYTES - 4;

const STATUSES = ['bytes', 'gone', 'unknown'] as const;
/** Bytes follow; this generation has ended at the sender; or the named bytes will never exist there. */
export type FrameStatus = (typeof STATUSES)[number];

const KINDS = [undefined, 'partial', 'reduced', 'facts', 'state', 'stateFacts'] as const;

export interface FrameHeader {
  readonly status: FrameStatus;
  readonly kind: PullRequest['kind'];
  readonly request: number;
  readonly term: number;
  readonly generation: number;
  readonly step: number;
  readonly nodeLo: number;
  readonly nodeLength: number;
  readonly bucket: number;
  readonly segment: number;
  /** Offset of the payload from the start of what was asked for, in bytes. */
  readonly offset: number;
}

export interface Frame extends FrameHeader {
  readonly payload: Buffer;
}

/** Why a received frame was not taken. */
export type BadFrame = 'short' | 'version' | 'length' | 'crc' | 'header';

const EMPTY = Buffer.alloc(0);

/** The frame that answers `request` with bytes at `offset`, or refuses it. It is written into `memory` when it fits there. */
export function encodeFrame(
  request: PullRequest,
  status: FrameStatus,
  offset: number,
  payload: Uint8Array = EMPTY,
  memory: Buffer = EMPTY,
): Buffer {
  const length = HEADER_BYTES + payload.length;
  const frame = length <= memory.length ? memory.subarray(0, length) : Buffer.allocUnsafe(length);
  frame.writeUInt8(VERSION, 0);
  frame.writeUInt8(STATUSES.indexOf(status), 1);
  frame.writeUInt8(KINDS.indexOf(request.kind), 2);
  frame.writeUInt32LE(request.request, 3);
  frame.writeBigUInt64LE(BigInt(request.term), 7);
  frame.writeUInt32LE(request.generation, 15);
  frame.writeUInt32LE(request.step, 19);
  frame.writeUInt16LE(request.nodeLo, 23);
  frame.writeUInt16LE(request.nodeLength, 25);
  frame.writeUInt32LE(request.bucket, 27);
  frame.writeUInt32LE(request.segment, 31);
  frame.writeBigUInt64LE(BigInt(offset), 35);
  frame.writeUInt32LE(payload.length, 43);
  frame.set(payload, HEADER_BYTES);
  frame.writeUInt32LE(crcOf(frame), CRC_AT);
  return frame;
}

function crcOf(frame: Buffer): number {
  return crc32(frame.subarray(HEADER_BYTES), crc32(frame.subarray(0, CRC_AT)));
}

/** The frame in a received message, its payload a view of the message; or why it is refused. */
export function decodeFrame(message: Buffer): Frame | BadFrame {
  if (message.length < HEADER_BYTES) return 'short';
  if (message.readUInt8(0) !== VERSION) return 'version';
  if (message.readUInt32LE(43) !== message.length - HEADER_BYTES) return 'length';
  if (message.readUInt32LE(CRC_AT) !== crcOf(message)) return 'crc';
  const status = STATUSES[message.readUInt8(1)];
  const kind = KINDS[message.readUInt8(2)];
  if (status === undefined || kind === undefined) return 'header';
  return {
    status,
    kind,
    request: message.readUInt32LE(3),
    term: Number(message.readBigUInt64LE(7)),
    generation: message.readUInt32LE(15),
    step: message.readUInt32LE(19),
    nodeLo: message.readUInt16LE(23),
    nodeLength: message.readUInt16LE(25),
    bucket: message.readUInt32LE(27),
    segment: message.readUInt32LE(31),
    offset: Number(message.readBigUInt64LE(35)),
    payload: message.subarray(HEADER_BYTES),
  };
}

/** Whether a frame with a good CRC is an answer to `request`; a stray one is not. The offset is compared by the caller. */
export function answers(frame: FrameHeader, request: PullRequest): boolean {
  return (
    frame.request === request.request &&
    frame.kind === request.kind &&
    frame.term === request.term &&
    frame.generation === request.generation &&
    frame.step === request.step &&
    frame.nodeLo === request.nodeLo &&
    frame.nodeLength === request.nodeLength &&
    frame.bucket === request.bucket &&
    frame.segment === request.segment
  );
}

/** The payload as fp32 elements: where it lies if it is aligned, as it is when it comes from gRPC; otherwise a copy. */
export function floatsOf(payload: Buffer): Float32Array {
  const count = Math.floor(payload.length / 4);
  if (payload.byteOffset % 4 === 0) return new Float32Array(payload.buffer, payload.byteOffset, count);
  const copy = new Float32Array(count);
  new Uint8Array(copy.buffer).set(payload.subarray(0, count * 4));
  return copy;
}
