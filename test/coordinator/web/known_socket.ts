import type { ViewerSocket } from '../../../coordinator/web/viewer.js';
import { parseServerMessage, type ServerMessage } from '../../../shared/wire/dashboard.js';

/** A connection whose other end reads when it is told to. */
export class KnownSocket implements ViewerSocket {
  bufferedAmount = 0;
  /** Messages in the order in which they were sent, as long as it keeps them. */
  readonly sent: Buffer[] = [];
  sentBytes = 0;
  reads = true;
  keeps = true;
  closed = '';
  pings = 0;

  send(message: Buffer): void {
    this.sentBytes += message.length;
    if (this.keeps) this.sent.push(message);
    if (!this.reads) this.bufferedAmount += message.length;
  }

  ping(): void {
    this.pings += 1;
  }

  close(code: number, reason: string): void {
    this.closed = `${code} ${reason}`;
  }

  terminate(): void {
    this.closed = 'terminated';
  }

  messages(): readonly ServerMessage[] {
    return this.sent.map((bytes) => parseServerMessage(String(bytes)));
  }

  /** What was sent since the last call. */
  take(): readonly ServerMessage[] {
    const messages = this.messages();
    this.sent.length = 0;
    return messages;
  }
}
