/** The worker's session: a stream to whoever leads, opened anew whenever it breaks or another one leads. */
import type { ClientDuplexStream, StatusObject } from '@grpc/grpc-js';
import type { Leader } from '../../shared/etcd/leader_watch.js';
import { channelCredentials, TLS_CHANNEL_OPTIONS } from '../../shared/identity/grpc_credentials.js';
import type { CredentialSource } from '../../shared/identity/kept_credentials.js';
import type { Logger } from '../../shared/logger.js';
import { WireError } from '../../shared/wire/codec.js';
import { type CoordinatorMessage, coordinatorMessage, type WorkerMessage } from '../../shared/wire/session.js';
import { Outbox } from './outbox.js';
import { bytesOf, SessionStub } from './session_wire.js';

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 1_000;
const MAX_WAITING_MESSAGES = 20_000;
/** A coordinator that does not greet in this time is tried anew. */
const GREETING_MS = 3_000;

const channelOptions = {
  'grpc.keepalive_time_ms': 2_000,
  'grpc.keepalive_timeout_ms': 2_000,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 500,
  'grpc.enable_http_proxy': 0,
  ...TLS_CHANNEL_OPTIONS,
};

export interface SessionEvents {
  readonly onOpened: () => void;
  readonly onMessage: (message: CoordinatorMessage) => void;
  readonly onClosed: () => void;
}

type Stream = ClientDuplexStream<unknown, unknown>;

export class SessionClient {
  readonly #events: SessionEvents;
  readonly #log: Logger;
  readonly #credentials: CredentialSource | undefined;
  #leader: Leader | undefined;
  #stub: InstanceType<typeof SessionStub> | undefined;
  #stream: Stream | undefined;
  #outbox: Outbox | undefined;
  #retry: NodeJS.Timeout | undefined;
  #greeting: NodeJS.Timeout | undefined;
  #retryMs = FIRST_RETRY_MS;
  #openedMs = 0;
  #closed = false;

  constructor(events: SessionEvents, log: Logger, credentials?: CredentialSource) {
    this.#events = events;
    this.#log = log;
    this.#credentials = credentials;
  }

  /** Whoever leads now; the session moves there. */
  follow(leader: Leader | undefined): void {
    if (leader?.term === this.#leader?.term) return;
    this.#leader = leader;
    this.#drop();
    this.#retryMs = FIRST_RETRY_MS;
    this.#open();
  }

  send(message: WorkerMessage): void {
    const outbox = this.#outbox;
    if (outbox === undefined) return;
    if (outbox.length >= MAX_WAITING_MESSAGES) this.#stream?.cancel();
    else outbox.add(bytesOf(message));
  }

  /**
   * There is somebody to talk to, and this neither talks nor tries to. Never so unless something here is broken: a coordinator that
   * cannot be reached, or does not answer, is tried again and again.
   */
  hasStopped(): boolean {
    return !this.#closed && this.#leader !== undefined && this.#stream === undefined && this.#retry === undefined;
  }

  /** How long the stream has been open that is open now; 0: none is. */
  openForMs(nowMs: number): number {
    return this.#stream === undefined ? 0 : nowMs - this.#openedMs;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#outbox?.flush();
    this.#stream?.end();
    this.#outbox = undefined;
    this.#stream = undefined;
    clearTimeout(this.#greeting);
    this.#stub?.close();
  }

  #open(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    const leader = this.#leader;
    if (leader === undefined || this.#closed) return;
    const expected = { role: 'coordinator', name: leader.name } as const;
    const stub = new SessionStub(
      leader.address,
      channelCredentials(this.#credentials?.current, expected),
      channelOptions,
    );
    this.#stub = stub;
    const stream: Stream = stub['Connect']?.();
    this.#stream = stream;
    this.#outbox = new Outbox((bytes, written) => void stream.write(bytes, written));
    this.#openedMs = performance.now();
    this.#greeting = setTimeout(() => stream.cancel(), GREETING_MS);
    stream.on('data', (wire: unknown) => this.#received(stream, wire));
    stream.on('error', () => undefined); // Only 'status' says how a stream ended.
    stream.on('status', (status: StatusObject) => this.#ended(stream, status));
    this.#events.onOpened();
  }

  #received(stream: Stream, wire: unknown): void {
    if (stream !== this.#stream) return;
    clearTimeout(this.#greeting);
    this.#retryMs = FIRST_RETRY_MS;
    try {
      this.#events.onMessage(coordinatorMessage.decode(wire, 'CoordinatorMessage'));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#log.warn('the coordinator sent a message that cannot be read', { error: error.message });
      stream.cancel();
    }
  }

  #ended(stream: Stream, status: StatusObject): void {
    if (stream !== this.#stream) return;
    this.#log.info('session ended', { code: status.code, details: status.details });
    this.#drop();
    this.#retry = setTimeout(() => this.#open(), this.#retryMs * (0.5 + Math.random() / 2));
    this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
  }

  #drop(): void {
    clearTimeout(this.#greeting);
    clearTimeout(this.#retry);
    this.#retry = undefined;
    const stream = this.#stream;
    this.#stream = undefined;
    this.#outbox = undefined;
    if (stream === undefined) return;
    stream.cancel();
    this.#stub?.close();
    this.#events.onClosed();
  }
}
