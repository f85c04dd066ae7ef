/**
 * The serving end of the Peer service: requests wait here until the bytes that they name exist, then go out as frames.
 *
 * Payloads are sent from where they lie. The hash in a frame's header is made in the turn of the event loop in which the bytes are looked
 * up, so if a slot is written again before the socket has taken them the frame is refused at the other end.
 */
import { randomBytes } from 'node:crypto';
import { readSync } from 'node:fs';
import {
  constants,
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type ConnectionLimits, limitConnections } from '../../shared/connection_limit.js';
import { described } from '../../shared/identity/identity.js';
import { MUTUAL_SERVER } from '../../shared/identity/tls_options.js';
import type { PullRequest } from '../../shared/wire/peer.js';
import { encodeMemoryPlace, encodePartialFacts, encodeStateFacts, type MemoryPlace } from './facts.js';
import { encodeHeader, type FrameStatus, HEADER_BYTES } from './frame.js';
import {
  CONTENT_TYPE,
  code,
  keepAlive,
  MessageReader,
  PREFIX_BYTES,
  statusTrailers,
  writePrefix,
} from './grpc_wire.js';
import { type PeerSecurity, peerOf } from './peer_security.js';
import { decodePullRequest, HOST_KEY, INCARNATION_KEY, MOST_REQUEST_BYTES, PULL_PATH } from './peer_service.js';
import { CHUNK_BYTES } from './segments.js';
import type { Answer, Located, Shelf } from './shelf.js';

/** Requests that one stream may have open; a peer that asks more is cut off, and begins again. */
const MOST_OPEN_REQUESTS = 256;
/** Frames handed to the stream and not yet taken by the socket. */
const MOST_FRAMES_IN_FLIGHT = 4;
const HEAD_BYTES = PREFIX_BYTES + HEADER_BYTES;
const PING_EVERY_MS = 5000;
const PING_TIMEOUT_MS = 5000;
/** A peer has one, and another one while the one before is not known to be dead. */
const CONNECTIONS: ConnectionLimits = { inAll: 4096, perAddress: 2048 };

const SERVER_OPTIONS = {
  /** MiB that one connection may take; what we write is bounded by ourselves. */
  maxSessionMemory: 64,
  /** A peer needs one. */
  settings: { maxConcurrentStreams: 4 },
};

export interface PeerServerLimits {
  /** Requests of all streams that wait for what they name. A peer has 64 open at most. */
  readonly waiting: number;
  /** A connection without a stream is closed after so long. */
  readonly idleMs: number;
  /** So is a stream that takes nothing of what it asked for. */
  readonly stalledMs: number;
}

const LIMITS: PeerServerLimits = { waiting: 262_144, idleMs: 10_000, stalledMs: 60_000 };

const NO_BYTES = Buffer.alloc(0);

let probeBytes: Buffer | undefined;

/** What a probe gets, a chunk of it at a time. Random, so that nothing on the way can make it shorter; made when it is first asked for. */
function locateProbe(length: number): Located {
  probeBytes ??= randomBytes(CHUNK_BYTES);
  return { kind: 'memory', memory: probeBytes, at: 0, length };
}

/** What one job serves. */
export interface Serving {
  readonly shelf: Shelf;
  /** A view of a run of a slot. */
  bytes(slot: number, at: number, length: number): Uint8Array;
  /** Where a process of the same host finds it. */
  placeOf(slot: number, at: number, length: number): MemoryPlace;
}

export interface PeerServerOptions {
  readonly incarnation: string;
  /** See peer_memory.ts; empty if no memory is offered. */
  readonly host: string;
  readonly servingOf: (job: string) => Serving | undefined;
  /** Without it anybody who reaches the port is answered. */
  readonly security?: PeerSecurity | undefined;
}

interface Waiting {
  readonly stream: ServingStream;
  readonly request: PullRequest;
}

export class PeerServer {
  readonly #server: Http2Server | Http2SecureServer;
  readonly #secureServer: Http2SecureServer | undefined;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** By job, then by the event that the requests wait for. */
  readonly #waiting = new Map<string, Map<string, Set<Waiting>>>();
  #waitingCount = 0;

  constructor(
    private readonly options: PeerServerOptions,
    private readonly limits = LIMITS,
  ) {
    const { security } = options;
    if (security !== undefined) {
      this.#secureServer = createSecureServer({ ...SERVER_OPTIONS, ...MUTUAL_SERVER, ...security.serverOptions });
    }
    this.#server = this.#secureServer ?? createServer(SERVER_OPTIONS);
    limitConnections(this.#server, CONNECTIONS);
    this.#server.on('session', (session) => this.#connected(session));
    this.#server.on('stream', (stream, headers) => this.#accept(stream, headers));
  }

  /** Resolves with the port that was bound. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        // A TCP server's address is never a string.
        resolve((this.#server.address() as AddressInfo).port);
      });
    });
  }

  /** The security has new certificates, for connections from now on. */
  certificatesChanged(): void {
    const { security } = this.options;
    if (security !== undefined) this.#secureServer?.setSecureContext(security.serverOptions);
  }

  close(): void {
    this.#server.close();
    for (const session of this.#sessions) session.destroy();
  }

  /** `event` of the job has happened: what waited for it is looked at again. */
  wake(job: string, event: string): void {
    const ofJob = this.#waiting.get(job);
    const woken = ofJob?.get(event);
    if (woken === undefined) return;
    ofJob?.delete(event);
    this.#waitingCount -= woken.size;
    for (const { stream, request } of woken) stream.consider(request);
  }

  /** Everything that waits for the job is looked at again. */
  wakeAll(job: string): void {
    const ofJob = this.#waiting.get(job);
    this.#waiting.delete(job);
    for (const woken of ofJob?.values() ?? []) {
      this.#waitingCount -= woken.size;
      for (const { stream, request } of woken) stream.consider(request);
    }
  }

  #connected(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    const ping = (answered: () => void): void => void (session.destroyed || session.ping(answered));
    const stopPings = keepAlive(ping, PING_EVERY_MS, PING_TIMEOUT_MS, () => session.destroy());
    const stopWaiting = this.#closeIdle(session);
    session.once('close', () => {
      this.#sessions.delete(session);
      stopPings();
      stopWaiting();
    });
    // A connection that breaks ends its streams, which is all that matters here.
    session.on('error', () => undefined);
  }

  /** Ends the connection when it has had no stream for a while. Returns what stops that. */
  #closeIdle(session: ServerHttp2Session): () => void {
    let streams = 0;
    const close = (): void => session.destroy();
    let idle = setTimeout(close, this.limits.idleMs);
    session.on('stream', (stream) => {
      streams++;
      clearTimeout(idle);
      stream.once('close', () => {
        streams--;
        if (streams === 0 && !session.destroyed) idle = setTimeout(close, this.limits.idleMs);
      });
    });
    return () => clearTimeout(idle);
  }

  #accept(http2: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    http2.on('error', () => undefined);
    const refuse = (status: number, details: string): void =>
      http2.respond({ ...this.#greeting(), ...statusTrailers(status, details) }, { endStream: true });
    if (headers[':path'] !== PULL_PATH) {
      refuse(code.unimplemented, 'no such method');
      return;
    }
    const { servingOf, security } = this.options;
    const peer = security === undefined || http2.session === undefined ? undefined : peerOf(http2.session);
    if (security !== undefined && peer?.role !== 'worker') {
      refuse(code.permissionDenied, `${peer === undefined ? 'nobody' : described(peer)} is not a worker`);
      return;
    }
    http2.respond(this.#greeting(), { waitForTrailers: true });
    const stream = new ServingStream(http2, {
      servingOf,
      wait: (request, event) => this.#wait(stream, request, event),
      asker: peer?.name,
      stalledMs: this.limits.stalledMs,
    });
    const reader = new MessageReader(MOST_REQUEST_BYTES);
    http2.on('data', (bytes: Buffer) => {
      const messages = reader.push(bytes);
      if (messages === undefined) stream.end(code.invalidArgument, 'malformed message');
      else for (const message of messages) stream.receive(message);
    });
    http2.on('wantTrailers', () => {
      if (!http2.closed) http2.sendTrailers(stream.trailers);
    });
    http2.on('end', () => stream.end(code.ok, ''));
    http2.on('close', () => this.#forget(stream));
  }

  #greeting(): OutgoingHttpHeaders {
    const { incarnation, host } = this.options;
    const offered = host === '' ? {} : { [HOST_KEY]: host };
    return { ':status': 200, 'content-type': CONTENT_TYPE, [INCARNATION_KEY]: incarnation, ...offered };
  }

  #wait(stream: ServingStream, request: PullRequest, event: string): void {
    if (this.#waitingCount >= this.limits.waiting) {
      stream.end(code.resourceExhausted, `${this.limits.waiting} requests wait already`);
      return;
    }
    this.#waitingCount++;
    const ofJob = this.#waiting.get(request.job) ?? new Map<string, Set<Waiting>>();
    const waiting = ofJob.get(event) ?? new Set();
    this.#waiting.set(request.job, ofJob.set(event, waiting.add({ stream, request })));
  }

  #forget(stream: ServingStream): void {
    stream.close();
    for (const ofJob of this.#waiting.values()) {
      for (const [event, waiting] of ofJob) {
        for (const entry of waiting) {
          if (entry.stream === stream && waiting.delete(entry)) this.#waitingCount--;
        }
        if (waiting.size === 0) ofJob.delete(event);
      }
    }
  }
}

/** A request whose bytes are being sent. */
interface Sending {
  readonly request: PullRequest;
  sent: number;
}

interface OutgoingFrame {
  readonly status: FrameStatus;
  readonly offset: number;
  readonly payload: Uint8Array;
  readonly last: boolean;
}

interface ServingStreamOptions {
  readonly servingOf: (job: string) => Serving | undefined;
  readonly wait: (request: PullRequest, event: string) => void;
  /** By the certificate of whoever asks; undefined without one. */
  readonly asker: string | undefined;
  readonly stalledMs: number;
}

class ServingStream {
  readonly #ready: Sending[] = [];
  /** Requests that are neither wholly sent nor refused. */
  #open = 0;
  #framesInFlight = 0;
  #closed = false;
  #stalled: NodeJS.Timeout | undefined;
  #trailers = statusTrailers(code.ok);

  constructor(
    private readonly http2: ServerHttp2Stream,
    private readonly options: ServingStreamOptions,
  ) {}

  /** The status with which the call ends. */
  get trailers(): OutgoingHttpHeaders {
    return this.#trailers;
  }

  close(): void {
    this.#closed = true;
    this.#ready.length = 0;
    clearTimeout(this.#stalled);
  }

  end(status: number, details: string): void {
    if (this.#closed) return;
    this.close();
    this.#trailers = statusTrailers(status, details);
    this.http2.end();
    // To whoever does not read, trailers cannot be sent either.
    this.#stalled = setTimeout(() => this.#dropStalled(), this.options.stalledMs);
  }

  receive(message: Buffer): void {
    if (this.#closed) return;
    const request = decodePullRequest(message);
    const { asker } = this.options;
    this.#open++;
    if (request === undefined) this.end(code.invalidArgument, 'malformed request');
    else if (request.worker !== (asker ?? request.worker))
      this.end(code.permissionDenied, `worker ${asker} asks in the name of ${request.worker}`);
    else if (this.#open <= MOST_OPEN_REQUESTS) this.consider(request);
    else this.end(code.resourceExhausted, `more than ${MOST_OPEN_REQUESTS} open requests`);
  }

  /** Sends, refuses or keeps waiting. */
  consider(request: PullRequest): void {
    if (this.#closed) return;
    const answer = this.#lookUp(request, request.offset, request.length);
    if (answer.kind === 'wait') this.options.wait(request, answer.event);
    else {
      this.#ready.push({ request, sent: 0 });
      this.#pump();
    }
  }

  #lookUp(request: PullRequest, offset: number, length: number): Answer {
    if (request.kind === 'probe') return { kind: 'found', located: locateProbe(length) };
    const shelf = this.options.servingOf(request.job)?.shelf;
    if (shelf === undefined) return { kind: 'refused', status: 'unknown' };
    return shelf.lookUp({ ...request, offset, length });
  }

  #pump(): void {
    this.http2.cork();
    for (let next = this.#ready[0]; next !== undefined; next = this.#ready[0]) {
      if (this.#framesInFlight >= MOST_FRAMES_IN_FLIGHT) break;
      const frame = this.#nextFrame(next);
      if (frame.last) {
        this.#ready.shift();
        this.#open--;
      }
      this.#write(next.request, frame);
    }
    this.http2.uncork();
  }

  #write(request: PullRequest, { status, offset, payload }: OutgoingFrame): void {
    const head = Buffer.allocUnsafe(HEAD_BYTES);
    writePrefix(head, HEADER_BYTES + payload.length);
    encodeHeader(head.subarray(PREFIX_BYTES), request, status, offset, payload);
    this.#framesInFlight++;
    this.#stalled ??= setTimeout(() => this.#dropStalled(), this.options.stalledMs);
    const sent = (error?: Error | null): void => {
      this.#framesInFlight--;
      clearTimeout(this.#stalled);
      const waits = this.#framesInFlight > 0 && !this.#closed;
      this.#stalled = waits ? setTimeout(() => this.#dropStalled(), this.options.stalledMs) : undefined;
      // A stream that cannot be written to is about to be closed.
      if (!this.#closed && !error) this.#pump();
    };
    if (payload.length === 0) {
      this.http2.write(head, sent);
      return;
    }
    this.http2.write(head);
    this.http2.write(payload, sent);
  }

  #dropStalled(): void {
    this.close();
    this.http2.close(constants.NGHTTP2_CANCEL);
  }

  #nextFrame(sending: Sending): OutgoingFrame {
    const { request, sent } = sending;
    const offset = request.offset + sent;
    const rest = request.length - sent;
    const inPlace =
      request.sameHost && request.length > 0 && (request.kind === 'partial' || request.kind === 'reduced');
    const length = inPlace ? rest : Math.min(CHUNK_BYTES, rest);
    const answer = this.#lookUp(request, offset, length);
    // What was there when the request was considered may be gone by now, but is never on its way again.
    if (answer.kind !== 'found') {
      return { status: answer.kind === 'refused' ? answer.status : 'gone', offset, payload: NO_BYTES, last: true };
    }
    const { located } = answer;
    const serving = this.options.servingOf(request.job);
    if (inPlace && located.kind === 'slot' && serving !== undefined) {
      const place = serving.placeOf(located.slot, located.at, located.length);
      return { status: 'here', offset, payload: encodeMemoryPlace(place), last: true };
    }
    const payload = located.kind === 'slot' && length === 0 ? NO_BYTES : read(serving, located);
    sending.sent += payload.length;
    return { status: 'bytes', offset, payload, last: sending.sent >= request.length };
  }
}

function read(serving: Serving | undefined, located: Located): Uint8Array {
  switch (located.kind) {
    case 'slot':
      return serving?.bytes(located.slot, located.at, located.length) ?? NO_BYTES;
    case 'memory':
      return located.memory.subarray(located.at, located.at + located.length);
    case 'state':
      return readState(located.fd, located.at, located.length);
    case 'partial_facts':
      return encodePartialFacts(located.facts);
    case 'state_facts':
      return encodeStateFacts(located.facts);
  }
}

/** Read, not mapped: the engine may make the file shorter, and touching a mapping beyond its end would kill the daemon. */
function readState(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  readSync(fd, bytes, 0, length, at);
  return bytes;
}
