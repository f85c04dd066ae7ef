/** The puller's HTTP/2 connection to one peer, with one call of Pull on it. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import type { PullRequest } from '../../shared/wire/peer.js';
import { CONTENT_TYPE, keepAlive, statusOf, withPrefix } from './grpc_wire.js';
import { HOST_KEY, INCARNATION_KEY, PULL_PATH, serializePullRequest } from './peer_service.js';

/** Bytes that may be on their way to us before we have read any. */
const STREAM_WINDOW_BYTES = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;
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
  data(bytes: Buffer): void;
  /** The call has ended, once, and not because it was closed here. */
  broke(reason: string): void;
}

export class PeerCall {
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  #over = false;

  constructor(
    address: string,
    private readonly events: CallEvents,
  ) {
    this.#session = connect(`http://${address}`, { settings: { initialWindowSize: STREAM_WINDOW_BYTES } });
    this.#session.on('error', (error) => this.#broke(error.message));
    this.#session.on('goaway', () => this.#broke('the peer closes the connection'));
    this.#session.on('close', () => this.#broke('connection dropped'));
    // The event may come after the call was closed here, when there is no session any more.
    this.#session.once('connect', () => {
      this.#ifGoing(() => {
        this.#session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
        keepAlive(this.#session, PING_EVERY_MS, PING_TIMEOUT_MS, () => this.#broke('no answer to a ping'));
      });
    });
    this.#stream = this.#session.request(
      { ':method': 'POST', ':path': PULL_PATH, te: 'trailers', 'content-type': CONTENT_TYPE },
      { endStream: false },
    );
    this.#listen(this.#stream);
  }

  #listen(stream: ClientHttp2Stream): void {
    stream.on('response', (headers) => {
      const status = statusOf(headers);
      if (status !== undefined) this.#broke(status);
      else if (headers[':status'] !== 200) this.#broke(`HTTP status ${String(headers[':status'])}`);
      else
        this.#ifGoing(() =>
          this.events.greeted({ incarnation: textOf(headers[INCARNATION_KEY]), host: textOf(headers[HOST_KEY]) }),
        );
    });
    stream.on('data', (bytes: Buffer) => this.#ifGoing(() => this.events.data(bytes)));
    stream.on('trailers', (headers) => this.#broke(statusOf(headers) ?? 'the call ended without a status'));
    stream.on('error', (error) => this.#broke(error.message));
    stream.on('close', () => this.#broke('the call ended'));
  }

  #ifGoing(act: () => void): void {
    if (!this.#over) act();
  }

  #broke(reason: string): void {
    this.#ifGoing(() => {
      this.close();
      this.events.broke(reason);
    });
  }

  send(request: PullRequest): void {
    if (!this.#over) this.#stream.write(withPrefix(serializePullRequest(request)));
  }

  close(): void {
    this.#over = true;
    this.#stream.close(constants.NGHTTP2_CANCEL);
    this.#session.destroy();
  }
}

function textOf(header: string | string[] | undefined): string {
  return typeof header === 'string' ? header : '';
}
