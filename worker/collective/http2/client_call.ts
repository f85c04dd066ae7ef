/**
 * An HTTP/2 connection of our own with one call on it.
 *
 * Node's own client reads each 64 KiB into new memory, hands it on in pieces of 16 KiB, and has V8 collect all of it again; here everything
 * is read into the same memory and handed on from there, which takes two thirds of the time (docs/data_plane.md). Any HTTP/2 server can be
 * at the other end. https://www.rfc-editor.org/rfc/rfc9113
 */
import { connect, type OnReadOpts, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectSecurely } from 'node:tls';
import {
  contentOf,
  DEFAULT_WINDOW_BYTES,
  decodeSettings,
  encodeFrame,
  encodeSettings,
  encodeWindowUpdate,
  FrameCutter,
  type FrameHead,
  flag,
  frameType,
  MOST_PAYLOAD_BYTES,
  PREFACE,
  setting,
  uint31,
} from './frames.js';
import { decodeHeaderBlock, encodeHeaderBlock, type Headers } from './header_block.js';

/** A client's streams have odd numbers. */
const STREAM = 1;
/** Bytes that may be on their way to us before we have read any. */
const STREAM_WINDOW_BYTES = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;
/** So much is read before the windows are opened again. */
const WINDOW_STEP_BYTES = 2 * 1024 * 1024;
const MOST_HEADER_BLOCK_BYTES = 65_536;
/** Of one block; without a bound, empty ones would keep us busy for ever. */
const MOST_CONTINUATIONS = 16;
/** What the peer makes us answer and does not read. */
const MOST_UNSENT_BYTES = 1024 * 1024;
const PING_BYTES = 8;

const ENDED_WITHOUT_STATUS = 'the call ended without a status';

const SETTINGS = new Map<number, number>([
  [setting.headerTableSize, 0],
  [setting.enablePush, 0],
  [setting.initialWindowSize, STREAM_WINDOW_BYTES],
]);

/** What any connection of this thread has just read; it is handed on before anything else is read. */
const readBuffer = Buffer.allocUnsafeSlow(256 * 1024);

export interface ClientCallEvents {
  connected(): void;
  /** The response's headers, or its trailers, after which the call is over. */
  headers(headers: Headers): void;
  /** Not valid after the call. */
  data(bytes: Buffer): void;
  /** Nothing more comes, and not because it was closed here. Told once. */
  over(reason: string): void;
}

/** What TLS needs to know. Its records are decrypted into the same memory that plain bytes are read into. */
export type Security = Pick<ConnectionOptions, 'secureContext' | 'checkServerIdentity' | 'servername'>;

export class ClientCall {
  readonly #socket: Socket;
  readonly #cutter: FrameCutter;
  #over = false;
  /** What may be sent. */
  #connectionWindow = DEFAULT_WINDOW_BYTES;
  #streamWindow = DEFAULT_WINDOW_BYTES;
  #peersInitialWindow = DEFAULT_WINDOW_BYTES;
  /** Waits for the windows. Its bound is the caller's. */
  #unsent: Buffer[] = [];
  /** Since the windows were opened. */
  #readBytes = 0;
  #headerBlock: Buffer = Buffer.alloc(0);
  #continuations = 0;
  #lastHeaders = false;
  readonly #pings: (() => void)[] = [];

  /** `address` is HOST:PORT. Without `security` nothing is encrypted. */
  constructor(
    address: string,
    headers: Headers,
    private readonly events: ClientCallEvents,
    security?: Security,
  ) {
    this.#cutter = new FrameCutter({
      data: (bytes) => this.events.data(bytes),
      frame: (head, payload) => this.#take(head, payload),
      tooLong: () => this.#end('a frame is longer than was allowed'),
    });
    const onread = { buffer: readBuffer, callback: (count: number, bytes: Uint8Array) => this.#read(count, bytes) };
    this.#socket = socketTo(address, onread, security);
    this.#socket.on('error', (error) => this.#end(error.message));
    this.#socket.on('end', () => this.#end('connection closed'));
    this.#socket.on('close', () => this.#end('connection dropped'));
    this.#socket.on(security === undefined ? 'connect' : 'secureConnect', () =>
      this.#ifGoing(() => this.events.connected()),
    );
    this.#socket.write(PREFACE);
    this.#socket.write(encodeSettings(SETTINGS));
    this.#socket.write(encodeWindowUpdate(0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES));
    this.#socket.write(encodeFrame(frameType.headers, flag.endHeaders, STREAM, encodeHeaderBlock(headers)));
  }

  /** Sends the bytes when the peer's windows allow it, in order. */
  write(bytes: Buffer): void {
    this.#unsent.push(bytes);
    this.#flush();
  }

  ping(answered: () => void): void {
    this.#pings.push(answered);
    this.#send(frameType.ping, 0, 0, Buffer.alloc(PING_BYTES));
  }

  close(): void {
    this.#over = true;
    this.#cutter.end();
    this.#socket.destroy();
  }

  #ifGoing(act: () => void): void {
    if (!this.#over) act();
  }

  #end(reason: string): void {
    this.#ifGoing(() => {
      this.close();
      this.events.over(reason);
    });
  }

  #send(type: number, flags: number, stream: number, payload: Buffer): void {
    if (this.#socket.writableLength > MOST_UNSENT_BYTES) this.#end('the peer does not read what it asks for');
    this.#ifGoing(() => this.#socket.write(encodeFrame(type, flags, stream, payload)));
  }

  #flush(): void {
    for (let next = this.#unsent[0]; next !== undefined; next = this.#unsent[0]) {
      const count = Math.min(next.length, MOST_PAYLOAD_BYTES, this.#connectionWindow, this.#streamWindow);
      if (count <= 0) return;
      this.#send(frameType.data, 0, STREAM, next.subarray(0, count));
      this.#connectionWindow -= count;
      this.#streamWindow -= count;
      if (count === next.length) this.#unsent.shift();
      else this.#unsent[0] = next.subarray(count);
    }
  }

  /** Whether more is to be read. */
  #read(count: number, bytes: Uint8Array): boolean {
    this.#cutter.push(Buffer.from(bytes.buffer, bytes.byteOffset, count));
    return !this.#over;
  }

  #take(head: FrameHead, payload: Buffer): void {
    switch (head.type) {
      case frameType.data:
        this.#takeData(head, payload);
        break;
      case frameType.headers:
      case frameType.continuation:
        this.#takeHeaders(head, payload);
        break;
      case frameType.resetStream:
        this.#end(`the peer ended the call (HTTP/2 error ${uint31(payload) ?? 'without code'})`);
        break;
      case frameType.settings:
        this.#takeSettings(head, payload);
        break;
      case frameType.pushPromise:
        this.#end('the peer pushes, which was not allowed');
        break;
      case frameType.ping:
        if ((head.flags & flag.ack) === 0) this.#send(frameType.ping, flag.ack, 0, payload);
        else this.#pings.shift()?.();
        break;
      case frameType.goaway:
        this.#end('the peer closes the connection');
        break;
      case frameType.windowUpdate:
        this.#takeWindowUpdate(head, payload);
        break;
      // Others do not matter: an end ignores what it does not know.
    }
  }

  #takeData(head: FrameHead, payload: Buffer): void {
    const content = contentOf(head, payload);
    if (content === undefined) this.#end('data with more padding than bytes');
    else if (content.length > 0) this.events.data(content);
    this.#readBytes += head.length;
    if (this.#readBytes >= WINDOW_STEP_BYTES) this.#openWindows();
    if ((head.flags & flag.endStream) !== 0) this.#end(ENDED_WITHOUT_STATUS);
  }

  #openWindows(): void {
    for (const stream of [0, STREAM]) {
      this.#ifGoing(() => this.#socket.write(encodeWindowUpdate(stream, this.#readBytes)));
    }
    this.#readBytes = 0;
  }

  #takeHeaders(head: FrameHead, payload: Buffer): void {
    const isFirst = head.type === frameType.headers;
    this.#continuations = isFirst ? 0 : this.#continuations + 1;
    if (isFirst) this.#lastHeaders = (head.flags & flag.endStream) !== 0;
    const part = isFirst ? contentOf(head, payload) : payload;
    this.#headerBlock = Buffer.concat([this.#headerBlock, part ?? payload]);
    const isTooLong = this.#headerBlock.length > MOST_HEADER_BLOCK_BYTES || this.#continuations > MOST_CONTINUATIONS;
    if (part === undefined || isTooLong) this.#end('malformed headers');
    else if ((head.flags & flag.endHeaders) !== 0) this.#takeHeaderBlock();
  }

  #takeHeaderBlock(): void {
    const headers = decodeHeaderBlock(this.#headerBlock);
    this.#headerBlock = Buffer.alloc(0);
    if (headers === undefined) this.#end('malformed headers');
    else this.#ifGoing(() => this.events.headers(headers));
    if (this.#lastHeaders) this.#end(ENDED_WITHOUT_STATUS);
  }

  #takeSettings(head: FrameHead, payload: Buffer): void {
    if ((head.flags & flag.ack) !== 0) return;
    const initialWindow = decodeSettings(payload).get(setting.initialWindowSize) ?? this.#peersInitialWindow;
    this.#streamWindow += initialWindow - this.#peersInitialWindow;
    this.#peersInitialWindow = initialWindow;
    this.#send(frameType.settings, flag.ack, 0, Buffer.alloc(0));
    this.#flush();
  }

  #takeWindowUpdate({ stream }: FrameHead, payload: Buffer): void {
    const bytes = uint31(payload) ?? 0;
    if (stream === 0) this.#connectionWindow += bytes;
    else if (stream === STREAM) this.#streamWindow += bytes;
    this.#flush();
  }
}

function socketTo(address: string, onread: OnReadOpts, security: Security | undefined): Socket {
  if (security === undefined) return connect({ ...hostAndPort(address), noDelay: true, onread });
  // Its types do not know onread, which it passes on to the socket that it makes.
  const options: ConnectionOptions & { onread: OnReadOpts } = {
    ...hostAndPort(address),
    ...security,
    ALPNProtocols: ['h2'],
    onread,
  };
  return connectSecurely(options).setNoDelay(true);
}

function hostAndPort(address: string): { host: string; port: number } {
  const { hostname, port } = new URL(`http://${address}`);
  const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  // A URL leaves its scheme's own port away.
  return { host, port: port === '' ? 80 : Number(port) };
}
