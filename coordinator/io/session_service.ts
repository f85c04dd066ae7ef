/** The session service: one stream a worker. */
import { type ServerDuplexStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { nanoid } from 'nanoid';
import { callerOf } from '../../shared/identity/caller.js';
import { described } from '../../shared/identity/identity.js';
import type { Logger } from '../../shared/logger.js';
import { WireError } from '../../shared/wire/codec.js';
import { type CoordinatorMessage, type WorkerMessage, workerMessage } from '../../shared/wire/session.js';
import type { AuditLog } from './audit_log.js';
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
  readonly #audit: Pick<AuditLog, 'record'>;

  constructor(driver: Driver, leader: () => string | undefined, log: Logger, audit: Pick<AuditLog, 'record'>) {
    this.#driver = driver;
    this.#leader = leader;
    this.#log = log;
    this.#audit = audit;
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
    this.#end(session, status.ABORTED, reason);
  }

  #end(session: string, code: status, details: string): void {
    const stream = this.#streams.get(session);
    if (stream === undefined) return;
    this.#streams.delete(session);
    stream.emit('error', { code, details });
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
      if (this.#speaksForAnother(session, message)) return;
      this.#driver.dispatch({ kind: 'session_message', session, message });
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#log.warn('a worker sent a message that cannot be read', { session, error: error.message });
      this.#driver.dispatch({ kind: 'session_closed', session, reason: error.message });
      this.close(session, error.message);
    }
  }

  /** A worker says hello in the name of its certificate, or not at all. */
  #speaksForAnother(session: string, message: WorkerMessage): boolean {
    const stream = this.#streams.get(session);
    if (stream === undefined || message.kind !== 'hello') return false;
    const caller = callerOf(stream);
    if (caller === undefined || message.worker === caller.name) return false;
    const [who, code] = [described(caller), status.PERMISSION_DENIED];
    const reason = `${who} may not say hello as ${message.worker}`;
    const [from, on] = [stream.getPeer(), { worker: message.worker }];
    this.#audit.record({ who, from, call: 'Session.Connect', on, outcome: status[code], reason });
    this.#driver.dispatch({ kind: 'session_closed', session, reason });
    this.#end(session, code, reason);
    return true;
  }
}
