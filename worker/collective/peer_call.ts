/** The puller's connection to one peer, with one call of Pull on it. */
import type { PullRequest } from '../../shared/wire/peer.js';
import { CONTENT_TYPE, keepAlive, statusOf, withPrefix } from './grpc_wire.js';
import { ClientCall, type Security } from './http2/client_call.js';
import type { Headers } from './http2/header_block.js';
import { HOST_KEY, INCARNATION_KEY, PULL_PATH, serializePullRequest } from './peer_service.js';

const PING_EVERY_MS = 1000;
const PING_TIMEOUT_MS = 1500;

/** What the peer says of itself when the call begins. */
export interface Greeting {
  readonly incarnation: string;
  /** See peer_memory.ts; empty if its memory is not offered. */
  readonly host: string;
}

export interface CallEvents {
  greeted(greeting: Greeting): void;
  /** Not valid after the call. */
  data(bytes: Buffer): void;
  /** The call has ended, once, and not because it was closed here. */
  broke(reason: string): void;
}

export class PeerCall {
  readonly #call: ClientCall;
  #greeted = false;
  #stopPings: () => void = () => undefined;

  /** `address` is HOST:PORT. */
  constructor(
    address: string,
    private readonly events: CallEvents,
    security?: Security,
  ) {
    const headers = new Map([
      [':method', 'POST'],
      [':scheme', security === undefined ? 'http' : 'https'],
      [':path', PULL_PATH],
      [':authority', address],
      ['te', 'trailers'],
      ['content-type', CONTENT_TYPE],
    ]);
    const heard = {
      connected: () => this.#keepAlive(),
      headers: (received: Headers) => this.#heard(received),
      data: (bytes: Buffer) => this.events.data(bytes),
      over: (reason: string) => this.#broke(reason),
    };
    this.#call = new ClientCall(address, headers, heard, security);
  }

  send(request: PullRequest): void {
    this.#call.write(withPrefix(serializePullRequest(request)));
  }

  close(): void {
    this.#stopPings();
    this.#call.close();
  }

  #keepAlive(): void {
    const ping = (answered: () => void): void => this.#call.ping(answered);
    this.#stopPings = keepAlive(ping, PING_EVERY_MS, PING_TIMEOUT_MS, () => this.#broke('no answer to a ping'));
  }

  #heard(headers: Headers): void {
    const status = statusOf(headers);
    if (status !== undefined) this.#broke(status);
    else if (this.#greeted) this.#broke('the call ended without a status');
    else if (headers.get(':status') !== '200') this.#broke(`HTTP status ${headers.get(':status') ?? 'missing'}`);
    else {
      this.#greeted = true;
      this.events.greeted({ incarnation: headers.get(INCARNATION_KEY) ?? '', host: headers.get(HOST_KEY) ?? '' });
    }
  }

  #broke(reason: string): void {
    this.close();
    this.events.broke(reason);
  }
}
