/**
 * The serving end of the Peer service: requests wait here until the bytes that they name exist, then go out as frames.
 *
 * A chunk's bytes are looked up and copied into its frame in one turn of the event loop, so what a frame says about its bytes was
 * true when they were read, whatever happens to the slot afterwards.
 */
import { readSync } from 'node:fs';
import { Metadata, Server, ServerCredentials, type ServerDuplexStream, status } from '@grpc/grpc-js';
import type { PullRequest } from '../../shared/wire/peer.js';
import { encodePartialFacts, encodeStateFacts } from './facts.js';
import { encodeFrame, HEADER_BYTES } from './frame.js';
import {
  decodePullRequest,
  INCARNATION_KEY,
  MOST_FRAME_BYTES,
  MOST_REQUEST_BYTES,
  peerService,
} from './peer_service.js';
import { CHUNK_BYTES } from './segments.js';
import type { Answer, Located, Shelf } from './shelf.js';

/** Requests that one stream may have open; a peer that asks more is cut off, and begins again. */
const MOST_OPEN_REQUESTS = 256;
/** Frames handed to gRPC and not yet taken by the socket, for each stream. */
const MOST_FRAMES_IN_FLIGHT = 4;

const SERVER_OPTIONS = {
  'grpc.max_receive_message_length': MOST_REQUEST_BYTES,
  'grpc.max_send_message_length': MOST_FRAME_BYTES,
  'grpc.max_concurrent_streams': 16,
  'grpc.keepalive_time_ms': 5000,
  'grpc.keepalive_timeout_ms': 5000,
};

/** What one job serves. */
export interface Serving {
  readonly shelf: Shelf;
  /** A view of a run of a slot. */
  bytes(slot: number, at: number, length: number): Uint8Array;
}

interface Waiting {
  readonly stream: ServingStream;
  readonly request: PullRequest;
}

export class PeerServer {
  readonly #server = new Server(SERVER_OPTIONS);
  /** By job, then by the event that the requests wait for. */
  readonly #waiting = new Map<string, Map<string, Set<Waiting>>>();

  constructor(
    private readonly incarnation: string,
    private readonly servingOf: (job: string) => Serving | undefined,
  ) {
    this.#server.addService(peerService, {
      Pull: (call: ServerDuplexStream<unknown, Buffer>) => this.#accept(call),
    });
  }

  /** Resolves with the port that was bound. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
  }

  close(): void {
    this.#server.forceShutdown();
  }

  /** `event` of the job has happened: what waited for it is looked at again. */
  wake(job: string, event: string): void {
    const ofJob = this.#waiting.get(job);
    const woken = ofJob?.get(event);
    if (woken === undefined) return;
    ofJob?.delete(event);
    for (const { stream, request } of woken) stream.consider(request);
  }

  /** Everything that waits for the job is looked at again. */
  wakeAll(job: string): void {
    const ofJob = this.#waiting.get(job);
    this.#waiting.delete(job);
    for (const woken of ofJob?.values() ?? []) for (const { stream, request } of woken) stream.consider(request);
  }

  #accept(call: ServerDuplexStream<unknown, Buffer>): void {
    const greeting = new Metadata();
    greeting.set(INCARNATION_KEY, this.incarnation);
    call.sendMetadata(greeting);
    const stream = new ServingStream(call, this.servingOf, (request, event) => this.#wait(stream, request, event));
    const end = (): void => this.#forget(stream);
    call.on('data', (wire: unknown) => stream.receive(wire));
    call.on('cancelled', end);
    call.on('error', end);
    call.on('close', end);
    call.on('end', () => {
      end();
      call.end();
    });
  }

  #wait(stream: ServingStream, request: PullRequest, event: string): void {
    const ofJob = this.#waiting.get(request.job) ?? new Map<string, Set<Waiting>>();
    const waiting = ofJob.get(event) ?? new Set();
    this.#waiting.set(request.job, ofJob.set(event, waiting.add({ stream, request })));
  }

  #forget(stream: ServingStream): void {
    stream.close();
    for (const ofJob of this.#waiting.values()) {
      for (const [event, waiting] of ofJob) {
        for (const entry of waiting) if (entry.stream === stream) waiting.delete(entry);
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

class ServingStream {
  readonly #ready: Sending[] = [];
  /** Memory for frames, used again once gRPC has copied the frame into a message of its own. */
  readonly #spare: Buffer[] = [];
  /** Requests that are neither wholly sent nor refused. */
  #open = 0;
  #framesInFlight = 0;
  #closed = false;

  constructor(
    private readonly call: ServerDuplexStream<unknown, Buffer>,
    private readonly servingOf: (job: string) => Serving | undefined,
    private readonly wait: (request: PullRequest, event: string) => void,
  ) {}

  close(): void {
    this.#closed = true;
    this.#ready.length = 0;
  }

  receive(wire: unknown): void {
    if (this.#closed) return;
    const request = decodePullRequest(wire);
    this.#open++;
    if (request === undefined || this.#open > MOST_OPEN_REQUESTS) {
      const problem = request === undefined ? 'malformed request' : `more than ${MOST_OPEN_REQUESTS} open requests`;
      this.close();
      this.call.emit('error', {
        code: request === undefined ? status.INVALID_ARGUMENT : status.RESOURCE_EXHAUSTED,
        details: problem,
      });
      return;
    }
    this.consider(request);
  }

  /** Sends, refuses or keeps waiting. */
  consider(request: PullRequest): void {
    if (this.#closed) return;
    const answer = this.#lookUp(request, request.offset);
    if (answer.kind === 'wait') this.wait(request, answer.event);
    else {
      this.#ready.push({ request, sent: 0 });
      this.#pump();
    }
  }

  #lookUp(request: PullRequest, offset: number): Answer {
    const shelf = this.servingOf(request.job)?.shelf;
    if (shelf === undefined) return { kind: 'refused', status: 'unknown' };
    const end = request.offset + request.length;
    return shelf.lookUp({ ...request, offset, length: Math.min(CHUNK_BYTES, end - offset) });
  }

  #pump(): void {
    for (let next = this.#ready[0]; next !== undefined; next = this.#ready[0]) {
      if (this.#framesInFlight >= MOST_FRAMES_IN_FLIGHT) return;
      const memory = this.#spare.pop() ?? Buffer.allocUnsafeSlow(HEADER_BYTES + CHUNK_BYTES);
      const { frame, last } = this.#frameOf(next, memory);
      if (last) {
        this.#ready.shift();
        this.#open--;
      }
      this.#framesInFlight++;
      this.call.write(frame, () => {
        this.#framesInFlight--;
        this.#spare.push(memory);
        this.#pump();
      });
    }
  }

  #frameOf(sending: Sending, memory: Buffer): { readonly frame: Buffer; readonly last: boolean } {
    const { request } = sending;
    const offset = request.offset + sending.sent;
    const answer = this.#lookUp(request, offset);
    // What was there when the request was considered may be gone by now, but is never on its way again.
    if (answer.kind !== 'found') {
      return { frame: encodeFrame(request, answer.kind === 'refused' ? answer.status : 'gone', offset), last: true };
    }
    const payload = this.#read(request.job, answer.located);
    sending.sent += payload.length;
    return { frame: encodeFrame(request, 'bytes', offset, payload, memory), last: sending.sent >= request.length };
  }

  #read(job: string, located: Located): Uint8Array {
    switch (located.kind) {
      case 'slot':
        return this.servingOf(job)?.bytes(located.slot, located.at, located.length) ?? Buffer.alloc(0);
      case 'state':
        return readState(located.fd, located.at, located.length);
      case 'partial_facts':
        return encodePartialFacts(located.facts);
      case 'state_facts':
        return encodeStateFacts(located.facts);
    }
  }
}

/** Read, not mapped: the engine may make the file shorter, and touching a mapping beyond its end would kill the daemon. */
function readState(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  readSync(fd, bytes, 0, length, at);
  return bytes;
}
