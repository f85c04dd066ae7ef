/** HTTP/2's frames, as a client of one call meets them. https://www.rfc-editor.org/rfc/rfc9113#section-4 */

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export const frameType = {
  data: 0,
  headers: 1,
  resetStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 32 } as const;

export const setting = { headerTableSize: 1, enablePush: 2, initialWindowSize: 4 } as const;

/** Nobody may send longer frames to an end that has not allowed it. */
export const MOST_PAYLOAD_BYTES = 16_384;
/** What each stream and the connection may send before anything was agreed. */
export const DEFAULT_WINDOW_BYTES = 65_535;

const HEAD_BYTES = 9;
/** The highest bit of such a number is reserved. */
const MOST_UINT31 = 0x7fffffff;
const PRIORITY_BYTES = 5;

export interface FrameHead {
  /** Bytes. */
  readonly length: number;
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
}

export function encodeFrame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.allocUnsafe(HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function encodeSettings(settings: ReadonlyMap<number, number>): Buffer {
  const payload = Buffer.alloc(6 * settings.size);
  let at = 0;
  for (const [name, value] of settings) {
    payload.writeUInt16BE(name, at);
    payload.writeUInt32BE(value, at + 2);
    at += 6;
  }
  return encodeFrame(frameType.settings, 0, 0, payload);
}

export function decodeSettings(payload: Buffer): ReadonlyMap<number, number> {
  const settings = new Map<number, number>();
  for (let at = 0; at + 6 <= payload.length; at += 6) {
    settings.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
  }
  return settings;
}

export function encodeWindowUpdate(stream: number, bytes: number): Buffer {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32BE(bytes);
  return encodeFrame(frameType.windowUpdate, 0, stream, payload);
}

/** A number with its reserved bit, at the beginning of the payload; undefined if it is too short. */
export function uint31(payload: Buffer): number | undefined {
  return payload.length < 4 ? undefined : payload.readUInt32BE(0) & MOST_UINT31;
}

/** The payload without the padding and the priority that its flags announce; undefined if it is too short for them. */
export function contentOf({ type, flags }: FrameHead, payload: Buffer): Buffer | undefined {
  const isPadded = (flags & flag.padded) !== 0;
  const padding = isPadded ? (payload[0] ?? 0) : 0;
  const hasPriority = type === frameType.headers && (flags & flag.priority) !== 0;
  const from = (isPadded ? 1 : 0) + (hasPriority ? PRIORITY_BYTES : 0);
  const to = payload.length - padding;
  return to < from ? undefined : payload.subarray(from, to);
}

export interface FrameListener {
  /** Bytes of data without padding, as they come, before the frame is whole. */
  data(bytes: Buffer): void;
  /** A whole frame. Of data without padding the payload is empty: it was told already. */
  frame(head: FrameHead, payload: Buffer): void;
  /** A frame longer than allowed; from here on the bytes make no sense. */
  tooLong(): void;
}

/** Cuts what comes on a connection into frames. Data passes through; of the others one frame is kept. */
export class FrameCutter {
  readonly #headBytes = Buffer.alloc(HEAD_BYTES);
  readonly #payload = Buffer.alloc(MOST_PAYLOAD_BYTES);
  #headCount = 0;
  #head: FrameHead | undefined;
  #payloadCount = 0;
  #ended = false;

  constructor(private readonly listener: FrameListener) {}

  /** The bytes are not touched after the call. */
  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length && !this.#ended; ) {
      at += this.#head === undefined ? this.#readHead(bytes, at) : this.#readPayload(this.#head, bytes, at);
    }
  }

  /** Nothing more is told. */
  end(): void {
    this.#ended = true;
  }

  #readHead(bytes: Buffer, at: number): number {
    const count = Math.min(HEAD_BYTES - this.#headCount, bytes.length - at);
    bytes.copy(this.#headBytes, this.#headCount, at, at + count);
    this.#headCount += count;
    if (this.#headCount === HEAD_BYTES) this.#begin();
    return count;
  }

  #begin(): void {
    const length = this.#headBytes.readUIntBE(0, 3);
    const [type = 0, flags = 0] = this.#headBytes.subarray(3, 5);
    const head = { length, type, flags, stream: this.#headBytes.readUInt32BE(5) & MOST_UINT31 };
    this.#head = head;
    this.#headCount = 0;
    this.#payloadCount = 0;
    if (length > MOST_PAYLOAD_BYTES) {
      this.end();
      this.listener.tooLong();
    } else if (length === 0) this.#finish(head);
  }

  #readPayload(head: FrameHead, bytes: Buffer, at: number): number {
    const count = Math.min(head.length - this.#payloadCount, bytes.length - at);
    if (passesThrough(head)) this.listener.data(bytes.subarray(at, at + count));
    else bytes.copy(this.#payload, this.#payloadCount, at, at + count);
    this.#payloadCount += count;
    if (this.#payloadCount === head.length && !this.#ended) this.#finish(head);
    return count;
  }

  #finish(head: FrameHead): void {
    this.#head = undefined;
    this.listener.frame(head, this.#payload.subarray(0, passesThrough(head) ? 0 : head.length));
  }
}

function passesThrough({ type, flags }: FrameHead): boolean {
  return type === frameType.data && (flags & flag.padded) === 0;
}
