/**
 * The raw frames that answer a pull: a header of 59 bytes, then the payload. The layout is in proto/peer.proto.
 *
 * With the 5 bytes that gRPC puts before a message, a payload begins 64 bytes after its message.
 */
import { crc32 } from 'node:zlib';
import type { PullRequest } from '../../shared/wire/peer.js';
import { hashOf } from './hash.js';

export const HEADER_BYTES = 59;
const VERSION = 2;
const CRC_AT = HEADER_BYTES - 4;

const STATUSES = ['bytes', 'gone', 'unknown', 'here'] as const;
/** Bytes follow; this generation has ended at the sender; the named bytes will never exist there; or where in its memory they are. */
export type FrameStatus = (typeof STATUSES)[number];

const KINDS = [undefined, 'partial', 'reduced', 'facts', 'state', 'stateFacts', 'sum', 'probe'] as const;

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
  /** Length of the payload in bytes. */
  readonly length: number;
  /** XXH3-64 of the payload. */
  readonly hash: bigint;
}

/** Why a received frame was not taken. */
export type BadFrame = 'version' | 'length' | 'crc' | 'header' | 'hash';

/** Writes the header of the frame that answers `request` with `payload` at `offset`, or refuses it, into the memory. */
export function encodeHeader(
  into: Buffer,
  request: PullRequest,
  status: FrameStatus,
  offset: number,
  payload: Uint8Array,
): void {
  into.writeUInt8(VERSION, 0);
  into.writeUInt8(STATUSES.indexOf(status), 1);
  into.writeUInt8(KINDS.indexOf(request.kind), 2);
  into.writeUInt32LE(request.request, 3);
  into.writeBigUInt64LE(BigInt(request.term), 7);
  into.writeUInt32LE(request.generation, 15);
  into.writeUInt32LE(request.step, 19);
  into.writeUInt16LE(request.nodeLo, 23);
  into.writeUInt16LE(request.nodeLength, 25);
  into.writeUInt32LE(request.bucket, 27);
  into.writeUInt32LE(request.segment, 31);
  into.writeBigUInt64LE(BigInt(offset), 35);
  into.writeUInt32LE(payload.length, 43);
  into.writeBigUInt64LE(hashOf(payload), 47);
  into.writeUInt32LE(crc32(into.subarray(0, CRC_AT)), CRC_AT);
}

/** What the 59 bytes of a header say, or why they are refused. */
export function decodeHeader(bytes: Buffer): FrameHeader | BadFrame {
  if (bytes.readUInt8(0) !== VERSION) return 'version';
  if (bytes.readUInt32LE(CRC_AT) !== crc32(bytes.subarray(0, CRC_AT))) return 'crc';
  const status = STATUSES[bytes.readUInt8(1)];
  const kind = KINDS[bytes.readUInt8(2)];
  if (status === undefined || kind === undefined) return 'header';
  return {
    status,
    kind,
    request: bytes.readUInt32LE(3),
    term: Number(bytes.readBigUInt64LE(7)),
    generation: bytes.readUInt32LE(15),
    step: bytes.readUInt32LE(19),
    nodeLo: bytes.readUInt16LE(23),
    nodeLength: bytes.readUInt16LE(25),
    bucket: bytes.readUInt32LE(27),
    segment: bytes.readUInt32LE(31),
    offset: Number(bytes.readBigUInt64LE(35)),
    length: bytes.readUInt32LE(43),
    hash: bytes.readBigUInt64LE(47),
  };
}

/** Whether a frame with a good header is an answer to `request`; a stray one is not. The offset is compared by the caller. */
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
