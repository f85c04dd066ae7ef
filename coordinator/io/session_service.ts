/** The session service: one stream a worker. */
import { type ServerDuplexStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { nanoid } from 'nanoid';
import type { Logger } from '../../shared/logger.js';
import { WireError } from '../../shared/wire/codec.js';
import { type CoordinatorMessage, workerMessage } from '../../shared/wire/session.js';
import type { Driver, Sessions } from './driver.js';
import { notLeading } from './refusal.js';
import { bytesOf } from './session_wire.js';

type Stream = ServerDuplexStream<unknown, unknown>;

/** A session that has so many bytes waiting is not read any more; the worker opens a new one. */
const MAX_WAITING_MESSAGES = 10_000;

export class SessionService implements Sessions {
  readonly #streams = new Map<string, Stream>();
  readonly #driver: Driver;
  readonly #leader: () => string | undefined;
  readonly #log: Logger;

  constructor(driver: Driver, leader: () => string | undefined, log: Logger) {
    this.#driver = driver;
    this.#leader = leader;
    this.#log = log;
  }

  get implementation(): UntypedServiceImplementation {
    return { connect: (stream: Stream) => this.#connect(stream) };
  }

  send(session: string, message: CoordinatorMessage): void {
    const stream = this.#streams.get(session);
    if (stream === undefined) return;
    if (stream.writableLength > MAX_WAITING_MESSAGES) this.close(session, 'it does not read');
    else stream.write(bytesOf(message));
  }

  close(session: string, reason: string): void {
    const stream = this.#streams.get(session);
    if (stream === undefined) return;
    this.#streams.delete(session);
    stream.emit('error', { code: status.ABORTED, details: reason });
  }

  #connect(stream: Stream): void {
    if (this.#driver.state.leading === undefined) {
      stream.on('error', () => undefined);
      stream.emit('error', notLeading(this.#leader()));
      return;
    }
    const session = nanoid();
    this.#streams.set(session, stream);
    const ended = (reason: string) => {
      if (!this.#streams.delete(session)) return;
      this.#driver.dispatch({ kind: 'session_closed', session, reason });
    };
    stream.on('data', (wire: unknown) => this.#received(session, wire));
    stream.on('cancelled', () => ended('its connection was reset'));
    stream.on('error', (error: Error) => ended(error.message));
    stream.on('end', () => {
      ended('it closed its session');
      stream.end();
    });
  }

  /** A message that cannot be understood ends the session; nothing of it is acted on. */
  #received(session: string, wire: unknown): void {
    if (!this.#streams.has(session)) return;
    try {
      const message = workerMessage.decode(wire, 'WorkerMessage');
      this.#driver.dispatch({ kind: 'session_message', session, message });
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#log.warn('a worker sent a message that cannot be read', { session, error: error.message });
      this.#driver.dispatch({ kind: 'session_closed', session, reason: error.message });
      this.close(session, error.message);
    }
  }
}
