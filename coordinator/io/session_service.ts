/** The session service: one stream a worker. */
import { type ServerDuplexStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { nanoid } from 'nanoid';
import { callerOf } from '../../shared/identity/caller.js';
import { described } from '../../shared/identity/identity.js';
import type { Logger } from '../../shared/logger.js';
import { NAME, NAME_TEXT } from '../../shared/name.js';
import { PROTOCOL } from '../../shared/protocol.js';
import { hostAndPort } from '../../shared/schema.js';
import { WireError } from '../../shared/wire/codec.js';
import { type CoordinatorMessage, type WorkerMessage, workerMessages } from '../../shared/wire/session.js';
import type { AuditTrail } from './audit_log.js';
import type { Driver, Sessions } from './driver.js';
import { notLeading, refusal } from './refusal.js';
import { bytesOf } from './session_wire.js';

type Stream = ServerDuplexStream<unknown, unknown>;

const address = hostAndPort();

/** A session that has so many bytes waiting is not read any more; the worker opens a new one. */
const MAX_WAITING_MESSAGES = 10_000;
/** Many times the workers of a large cluster. */
const MAX_SESSIONS = 4_096;
/** A worker says who it is as soon as its session is open. */
const HELLO_MS = 10_000;

/** Of what a session that was closed is still told; past it its connection is closed. */
const CLOSE_MS = 10_000;

export interface SessionLimits {
  readonly sessions: number;
  readonly helloMs: number;
}

export class SessionService implements Sessions {
  readonly #streams = new Map<string, Stream>();
  readonly #driver: Driver;
  readonly #leader: () => string | undefined;
  readonly #log: Logger;
  readonly #audit: Pick<AuditTrail, 'record'>;
  readonly #drop: (peer: string) => void;
  readonly #limits: SessionLimits;
  /** Sessions that have not said who they are, until when they may. */
  readonly #unnamed = new Map<string, NodeJS.Timeout>();

  /** `drop` ends the connection of a peer. */
  constructor(
    driver: Driver,
    leader: () => string | undefined,
    log: Logger,
    audit: Pick<AuditTrail, 'record'>,
    drop: (peer: string) => void,
    limits: SessionLimits = { sessions: MAX_SESSIONS, helloMs: HELLO_MS },
  ) {
    this.#driver = driver;
    this.#leader = leader;
    this.#log = log;
    this.#audit = audit;
    this.#drop = drop;
    this.#limits = limits;
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
    this.#forget(session);
    const overdue = setTimeout(() => this.#drop(stream.getPeer()), CLOSE_MS);
    for (const event of ['finish', 'cancelled', 'close']) stream.once(event, () => clearTimeout(overdue));
    stream.emit('error', { code, details });
  }

  #forget(session: string): boolean {
    clearTimeout(this.#unnamed.get(session));
    this.#unnamed.delete(session);
    return this.#streams.delete(session);
  }

  #connect(stream: Stream): void {
    if (this.#driver.state.leading === undefined) {
      stream.on('error', () => undefined);
      stream.emit('error', notLeading(this.#leader()));
      return;
    }
    if (this.#streams.size >= this.#limits.sessions) {
      stream.on('error', () => undefined);
      stream.emit('error', refusal(status.RESOURCE_EXHAUSTED, `there are ${this.#limits.sessions} sessions already`));
      return;
    }
    const session = nanoid();
    this.#streams.set(session, stream);
    const overdue = () => this.close(session, `it did not say hello within ${this.#limits.helloMs} ms`);
    this.#unnamed.set(session, setTimeout(overdue, this.#limits.helloMs));
    const ended = (reason: string) => {
      if (!this.#forget(session)) return;
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

  /** What cannot be understood ends the session; nothing of what came with it is acted on. */
  #received(session: string, wire: unknown): void {
    if (!this.#streams.has(session)) return;
    try {
      const { messages } = workerMessages.decode(wire, 'WorkerMessages');
      for (const message of messages) {
        if (this.#speaksForAnother(session, message)) return;
        if (message.kind === 'hello') this.#greeted(session, message);
      }
      this.#driver.dispatch(...messages.map((message) => ({ kind: 'session_message', session, message }) as const));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#log.warn('a worker sent a message that cannot be read', { session, error: error.message });
      this.#driver.dispatch({ kind: 'session_closed', session, reason: error.message });
      this.close(session, error.message);
    }
  }

  /** A worker says hello in the name of its certificate, or not at all. */
  #speaksForAnother(session: string, message: WorkerMessage): boolean {
    if (message.kind !== 'hello') return false;
    const stream = this.#streams.get(session);
    if (stream === undefined) return false;
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

  /** A session is of one worker, whose name and address are such that a configuration can say; others will be told them. */
  #greeted(session: string, { worker, peerAddress, protocol }: Extract<WorkerMessage, { kind: 'hello' }>): void {
    if (protocol !== PROTOCOL) {
      const who = NAME.test(worker) ? `worker ${worker}` : 'the worker';
      const problem = `${who} speaks ${protocol}, this coordinator ${PROTOCOL}: install the same version of Lockstep on both`;
      throw new WireError('WorkerMessage.hello.protocol', problem);
    }
    if (!NAME.test(worker)) throw new WireError('WorkerMessage.hello.worker', `must be ${NAME_TEXT}`);
    if (!address.safeParse(peerAddress).success) {
      throw new WireError('WorkerMessage.hello.peerAddress', 'must be host:port');
    }
    if (!this.#unnamed.has(session)) throw new WireError('WorkerMessage.hello', 'was said already');
    clearTimeout(this.#unnamed.get(session));
    this.#unnamed.delete(session);
  }
}
