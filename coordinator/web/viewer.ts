/**
 * One page that looks. It is given what fits: one that does not read fast enough gets nothing until it has read what is under way,
 * and then a fresh snapshot. So a frozen page costs a bounded amount of memory and nobody's time.
 */
import type { Channel, ChannelMessage } from './channel.js';
import type { Visitor } from './visitors.js';

/** What is needed of a WebSocket. */
export interface ViewerSocket {
  /** Bytes that were given to send() and have not gone out. */
  readonly bufferedAmount: number;
  send(message: Buffer): void;
  ping(): void;
  /** Ends the connection in good order. */
  close(code: number, reason: string): void;
  /** Ends the connection at once. */
  terminate(): void;
}

export interface ViewerLimits {
  /** A page with more bytes unsent gets no deltas. */
  readonly maxUnsentBytes: number;
  /** A page that has answered no ping for so long is gone. */
  readonly silentMs: number;
  /** Requests of one page in any second. */
  readonly maxRequestsPerSecond: number;
}

export const VIEWER_LIMITS: ViewerLimits = {
  maxUnsentBytes: 1_048_576,
  silentMs: 15_000,
  maxRequestsPerSecond: 20,
};

export interface ViewerOptions {
  readonly socket: ViewerSocket;
  readonly limits: ViewerLimits;
  readonly visitor: Visitor;
  /** Of the other end. */
  readonly address: string;
  readonly nowMs: number;
}

export class Viewer {
  readonly visitor: Visitor;
  readonly address: string;
  readonly #socket: ViewerSocket;
  readonly #limits: ViewerLimits;
  readonly #channels = new Set<Channel>();
  #lags = false;
  #heardMs: number;
  #secondBeganMs = 0;
  #requests = 0;

  constructor({ socket, limits, visitor, address, nowMs }: ViewerOptions) {
    this.visitor = visitor;
    this.address = address;
    this.#socket = socket;
    this.#limits = limits;
    this.#heardMs = nowMs;
  }

  get lags(): boolean {
    return this.#lags;
  }

  watches(channel: Channel): boolean {
    return this.#channels.has(channel);
  }

  /** Begins to look: gets what it missed since delta `resume`, or a snapshot. */
  watch(channel: Channel, resume: number | null): void {
    this.#channels.add(channel);
    if (this.#lags) return;
    const missed = resume === null ? undefined : channel.since(resume);
    for (const message of missed ?? [channel.snapshot()]) this.#socket.send(message.bytes);
  }

  leave(channel: Channel): void {
    this.#channels.delete(channel);
  }

  leaveAll(): void {
    this.#channels.clear();
    this.#lags = false;
  }

  /** Something that nobody else gets, of little size. Answers are left out while it lags. */
  say(message: Buffer): void {
    if (this.#keepsUp()) this.#socket.send(message);
  }

  deliver(channel: Channel, message: ChannelMessage): void {
    if (this.#channels.has(channel) && this.#keepsUp()) this.#socket.send(message.bytes);
  }

  /** What a page asks with a ping, it is told only while it reads. */
  answerPing(nowMs: number, pong: () => void): void {
    if (this.mayAsk(nowMs) && this.#keepsUp()) pong();
  }

  #keepsUp(): boolean {
    if (this.#socket.bufferedAmount > this.#limits.maxUnsentBytes) this.#lags = true;
    return !this.#lags;
  }

  /** A page that lagged and has read everything goes on with snapshots. It may have missed who leads, and answers: it hears `hello()` again. */
  catchUp(hello: () => Buffer): void {
    if (!this.#lags || this.#socket.bufferedAmount > 0) return;
    this.#lags = false;
    this.#socket.send(hello());
    for (const channel of this.#channels) this.#socket.send(channel.snapshot().bytes);
  }

  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }

  /** False, and the connection is ended, if it asks too often. */
  mayAsk(nowMs: number): boolean {
    if (nowMs - this.#secondBeganMs >= 1000) {
      this.#secondBeganMs = nowMs;
      this.#requests = 0;
    }
    this.#requests += 1;
    if (this.#requests <= this.#limits.maxRequestsPerSecond) return true;
    this.refuse('too many requests');
    return false;
  }

  /** Policy violation, in the words of RFC 6455. */
  refuse(reason: string): void {
    this.#socket.close(1008, reason);
  }

  /** Asks for a sign of life; false, and the connection is ended, if there has been none for too long. */
  checkAlive(nowMs: number): boolean {
    if (nowMs - this.#heardMs > this.#limits.silentMs) {
      this.#socket.terminate();
      return false;
    }
    this.#socket.ping();
    return true;
  }

  end(): void {
    this.#socket.terminate();
  }
}
