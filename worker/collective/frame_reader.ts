/** Reads frames off a stream and puts each payload where it belongs, without a copy in between. */
import { type BadFrame, decodeHeader, type FrameHeader, HEADER_BYTES } from './frame.js';
import { PREFIX_BYTES, prefixedLength } from './grpc_wire.js';
import { hashOf } from './hash.js';

const HEAD_BYTES = PREFIX_BYTES + HEADER_BYTES;

export interface FrameTaker {
  /** Memory of `header.length` bytes for the payload; undefined to drop it. */
  memoryFor(header: FrameHeader): Buffer | undefined;
  /** The payload is in the memory that was given for it, and its hash is right. */
  frameArrived(header: FrameHeader, payload: Buffer): void;
  /** From here on the stream makes no sense; nothing more is read off it. */
  frameRefused(reason: BadFrame): void;
}

export class FrameReader {
  readonly #head = Buffer.alloc(HEAD_BYTES);
  #headBytes = 0;
  #header: FrameHeader | undefined;
  #payload: Buffer | undefined;
  #payloadBytes = 0;
  #ended = false;

  constructor(
    private readonly mostPayloadBytes: number,
    private readonly taker: FrameTaker,
  ) {}

  /** Header of the frame whose payload is coming in. */
  get receiving(): FrameHeader | undefined {
    return this.#header;
  }

  /** The memory of the payload that is coming in is not touched any more; what still comes of it is dropped. */
  dropPayload(): void {
    this.#payload = undefined;
  }

  /** Nothing more is read. */
  end(): void {
    this.#ended = true;
    this.#payload = undefined;
  }

  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length && !this.#ended; ) {
      at += this.#header === undefined ? this.#readHead(bytes, at) : this.#readPayload(this.#header, bytes, at);
    }
  }

  #readHead(bytes: Buffer, at: number): number {
    const count = Math.min(HEAD_BYTES - this.#headBytes, bytes.length - at);
    bytes.copy(this.#head, this.#headBytes, at, at + count);
    this.#headBytes += count;
    if (this.#headBytes === HEAD_BYTES) this.#begin();
    return count;
  }

  #begin(): void {
    const header = decodeHeader(this.#head.subarray(PREFIX_BYTES));
    if (typeof header === 'string') {
      this.#refuse(header);
      return;
    }
    const { length } = header;
    if (prefixedLength(this.#head) !== HEADER_BYTES + length || length > this.mostPayloadBytes) {
      this.#refuse('length');
      return;
    }
    this.#header = header;
    this.#payload = this.taker.memoryFor(header);
    this.#payloadBytes = 0;
    if (length === 0) this.#finish(header);
  }

  #readPayload(header: FrameHeader, bytes: Buffer, at: number): number {
    const count = Math.min(header.length - this.#payloadBytes, bytes.length - at);
    this.#payload?.set(bytes.subarray(at, at + count), this.#payloadBytes);
    this.#payloadBytes += count;
    if (this.#payloadBytes === header.length) this.#finish(header);
    return count;
  }

  #finish(header: FrameHeader): void {
    const payload = this.#payload;
    this.#header = undefined;
    this.#payload = undefined;
    this.#headBytes = 0;
    if (payload === undefined) return;
    if (hashOf(payload) === header.hash) this.taker.frameArrived(header, payload);
    else this.#refuse('hash');
  }

  #refuse(reason: BadFrame): void {
    this.end();
    this.taker.frameRefused(reason);
  }
}
