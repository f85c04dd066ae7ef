/**
 * gRPC's wire protocol on HTTP/2, for the data plane alone: grpc-js copies each message twice on its way out and once more on its way in, into
 * memory that is new each time, which took 1.5 times as long (docs/data_plane.md). Any other gRPC peer can be at the other end.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
import type { OutgoingHttpHeaders } from 'node:http2';
import type { Headers } from './http2/header_block.js';

/** A flag (compressed or not) and the length, before every message. */
export const PREFIX_BYTES = 5;

export const CONTENT_TYPE = 'application/grpc+proto';

export const code = {
  ok: 0,
  cancelled: 1,
  invalidArgument: 3,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
} as const;

export function writePrefix(into: Buffer, messageBytes: number): void {
  into.writeUInt8(0, 0);
  into.writeUInt32BE(messageBytes, 1);
}

export function withPrefix(message: Buffer): Buffer {
  const whole = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  writePrefix(whole, message.length);
  message.copy(whole, PREFIX_BYTES);
  return whole;
}

/** The length of the message that the prefix announces; undefined if it is compressed, which is never agreed on. */
export function prefixedLength(prefix: Buffer): number | undefined {
  return prefix.readUInt8(0) === 0 ? prefix.readUInt32BE(1) : undefined;
}

/** The status with which a call ends, as HTTP/2 trailers. */
export function statusTrailers(status: number, details = ''): OutgoingHttpHeaders {
  return { 'grpc-status': status, 'grpc-message': encodeURIComponent(details) };
}

/** What the trailers (or the headers, when nothing else comes) say of the call's end; undefined if they do not. */
export function statusOf(headers: Headers): string | undefined {
  const status = headers.get('grpc-status');
  if (status === undefined) return undefined;
  return `status ${status}: ${safelyDecoded(headers.get('grpc-message') ?? '')}`;
}

function safelyDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Cuts what comes on a stream into messages; for small ones. */
export class MessageReader {
  #rest: Buffer = Buffer.alloc(0);

  constructor(private readonly mostBytes: number) {}

  /** The messages that are whole now; undefined when the stream is no sequence of messages of the allowed size. */
  push(bytes: Buffer): readonly Buffer[] | undefined {
    const messages: Buffer[] = [];
    let all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (all.length >= PREFIX_BYTES) {
      const length = prefixedLength(all);
      if (length === undefined || length > this.mostBytes) return undefined;
      if (all.length < PREFIX_BYTES + length) break;
      messages.push(all.subarray(PREFIX_BYTES, PREFIX_BYTES + length));
      all = all.subarray(PREFIX_BYTES + length);
    }
    this.#rest = Buffer.from(all);
    return messages;
  }
}

/** Pings the other end until what is returned is called; `dead` is called when an answer does not come in time. */
export function keepAlive(
  ping: (answered: () => void) => void,
  everyMs: number,
  timeoutMs: number,
  dead: () => void,
): () => void {
  let overdue: NodeJS.Timeout | undefined;
  const timer = setInterval(() => {
    if (overdue !== undefined) return;
    overdue = setTimeout(dead, timeoutMs);
    ping(() => {
      clearTimeout(overdue);
      overdue = undefined;
    });
  }, everyMs);
  return () => {
    clearInterval(timer);
    clearTimeout(overdue);
  };
}
