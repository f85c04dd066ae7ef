/**
 * The puller's end of the stream to one peer: sends requests, checks what comes back, reconnects.
 *
 * Everything that was wanted and has not come is asked for again on the next stream, from the offset that was reached, so a
 * broken connection and a refused chunk are healed in the same way.
 */
import type { PullRequest } from '../../shared/wire/peer.js';
import type { Peer } from './data_plane.js';
import type { DropCounter } from './drop_counter.js';
import { decodeMemoryPlace, type MemoryPlace } from './facts.js';
import { answers, type FrameHeader } from './frame.js';
import { FrameReader } from './frame_reader.js';
import { type Greeting, PeerCall } from './peer_call.js';
import { pidOnOurHost } from './peer_memory.js';
import type { PeerSecurity } from './peer_security.js';
import { MOST_PAYLOAD_BYTES } from './peer_service.js';
import { CHUNK_BYTES } from './segments.js';

/** Requested and not yet received, per peer. Bounds what a cancelled generation can still send us. */
const MOST_OUTSTANDING_BYTES = 16 * 1024 * 1024;
/** Below the server's bound on waiting requests. */
const MOST_OUTSTANDING_REQUESTS = 64;

const FIRST_CONNECT_GRACE_MS = 1000;
const RECONNECT_GRACE_MS = 150;
const ATTEMPT_TIMEOUT_MS = 2000;
const FIRST_BACKOFF_MS = 20;
const LONGEST_BACKOFF_MS = 250;
/** A peer whose chunks are refused so often in a row is reported like one that cannot be reached. */
const MOST_BAD_FRAMES_IN_A_ROW = 8;

/** Why a pull ends without its bytes: the peer left the generation, will never have them, or sent a document that cannot be read. */
export type Refusal = 'gone' | 'unknown' | 'malformed';

/** Hears what becomes of its pulls. */
export interface PullOwner {
  /** Memory of `length` bytes for the next bytes of the pull; it is written until they have arrived, or the pull is cancelled. Absent: any. */
  memoryFor?(pull: Pull, offset: number, length: number): Buffer;
  /** The next bytes of the pull: `offset` counts from the start of what was asked for. Without memoryFor they are gone after the call. */
  chunkArrived(pull: Pull, offset: number, payload: Buffer): void;
  /** All that the pull asked for is in the memory of process `pid`. False if it cannot be read there: then it is pulled. */
  locatedHere?(pull: Pull, pid: number, place: MemoryPlace): boolean;
  /** The peer will not answer the pull: it has left this generation, or never will have the bytes. The pull has ended. */
  refused(pull: Pull, reason: Refusal): void;
  /** The peer cannot be reached. Its pulls are kept and tried again until they are cancelled; this is called at each failed attempt. */
  peerFailing(peer: Peer, reason: string): void;
}

/** What is asked for, without what the stream adds. A length of 0 asks for a document that comes in one frame. */
export type PullName = Omit<PullRequest, 'request' | 'worker' | 'incarnation' | 'sameHost'>;

export interface Pull {
  readonly owner: PullOwner;
  readonly name: PullName;
  /** Place of the pull in its owner's own books. */
  readonly tag: number;
}

interface Outstanding {
  readonly pull: Pull;
  readonly request: PullRequest;
  received: number;
}

/** A pull and how much of it has been received already. */
interface Queued {
  readonly pull: Pull;
  readonly received: number;
}

export interface StreamIdentity {
  readonly worker: string;
  readonly incarnation: string;
  /** Memory of workers on this host is read where it is. */
  readonly sameHost: boolean;
}

export class PeerStream {
  #queue: Queued[] = [];
  readonly #outstanding = new Map<number, Outstanding>();
  #outstandingBytes = 0;
  #nextRequest = 1;
  #call: PeerCall | undefined;
  #reader: FrameReader | undefined;
  /** The peer's process, if its memory can be read. */
  #pid: number | undefined;
  /** For the payloads of owners that have no memory for them. */
  #scratch = Buffer.alloc(0);
  #healthy = false;
  #everHealthy = false;
  #reporting = false;
  #failures = 0;
  #badFrames = 0;
  #lastReason = 'cannot be reached';
  #retryTimer: NodeJS.Timeout | undefined;
  #graceTimer: NodeJS.Timeout | undefined;
  #attemptTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    readonly peer: Peer,
    private readonly own: StreamIdentity,
    private readonly drops: DropCounter,
    private readonly security?: PeerSecurity,
  ) {}

  want(pulls: readonly Pull[]): void {
    for (const pull of pulls) this.#queue.push({ pull, received: 0 });
    if (this.#queue.length > 0) this.#proceed();
  }

  /** Forgets the owner's pulls; what still comes for them is dropped. */
  cancel(owner: PullOwner): void {
    this.#queue = this.#queue.filter(({ pull }) => pull.owner !== owner);
    const receiving = this.#outstanding.get(this.#reader?.receiving?.request ?? 0);
    if (receiving?.pull.owner === owner) this.#reader?.dropPayload();
    for (const [number, { pull }] of this.#outstanding) if (pull.owner === owner) this.#forget(number);
    if (this.#wanted === 0) this.#stopReporting();
    this.#send();
  }

  close(): void {
    this.#closed = true;
    this.#queue = [];
    this.#outstanding.clear();
    clearTimeout(this.#retryTimer);
    this.#stopReporting();
    this.#dropConnection();
  }

  get #wanted(): number {
    return this.#queue.length + this.#outstanding.size;
  }

  #proceed(): void {
    if (this.#call !== undefined) this.#send();
    else if (this.#retryTimer === undefined) this.#open();
    if (!this.#healthy) this.#armGrace();
  }

  #send(): void {
    const call = this.#call;
    if (call === undefined) return;
    let next = this.#queue[0];
    while (next !== undefined && this.#hasRoomFor(next)) {
      this.#queue.shift();
      call.send(this.#register(next));
      next = this.#queue[0];
    }
  }

  #hasRoomFor({ pull }: Queued): boolean {
    if (this.#outstanding.size === 0) return true;
    if (this.#outstanding.size >= MOST_OUTSTANDING_REQUESTS) return false;
    return this.#outstandingBytes + pull.name.length <= MOST_OUTSTANDING_BYTES;
  }

  #register({ pull, received }: Queued): PullRequest {
    const { worker, incarnation } = this.own;
    const request: PullRequest = {
      ...pull.name,
      worker,
      incarnation,
      sameHost: this.#pid !== undefined && received === 0 && pull.owner.locatedHere !== undefined,
      request: this.#nextRequest,
      offset: pull.name.offset + received,
      length: pull.name.length - received,
    };
    this.#nextRequest = (this.#nextRequest % 0xffffffff) + 1;
    this.#outstanding.set(request.request, { pull, request, received });
    this.#outstandingBytes += pull.name.length;
    return request;
  }

  #forget(number: number): void {
    const entry = this.#outstanding.get(number);
    if (entry === undefined) return;
    this.#outstanding.delete(number);
    this.#outstandingBytes -= entry.pull.name.length;
  }

  #open(): void {
    const reader = new FrameReader(MOST_PAYLOAD_BYTES, {
      memoryFor: (header) => this.#memoryFor(header),
      frameArrived: (header, payload) => this.#arrived(header, payload),
      frameRefused: (reason) => this.#refuseFrame(reason),
    });
    this.#reader = reader;
    const events = {
      greeted: (greeting: Greeting) => this.#greeted(greeting),
      data: (bytes: Buffer) => reader.push(bytes),
      broke: (reason: string) => this.#broke(reason),
    };
    const { peerAddress, worker } = this.peer;
    this.#call = new PeerCall(peerAddress, events, this.security?.clientFor(worker));
    this.#attemptTimer = setTimeout(() => this.#broke('no answer'), ATTEMPT_TIMEOUT_MS);
    this.#send();
  }

  #greeted({ incarnation, host }: Greeting): void {
    clearTimeout(this.#attemptTimer);
    if (incarnation !== this.peer.incarnation) {
      this.#reporting = true;
      this.#broke('another incarnation answers');
      return;
    }
    this.#pid = this.own.sameHost ? pidOnOurHost(host) : undefined;
    this.#healthy = true;
    this.#everHealthy = true;
    this.#failures = 0;
    this.#stopReporting();
  }

  /** What the frame answers, if it is still wanted. */
  #entryOf(frame: FrameHeader): Outstanding | undefined {
    const entry = this.#outstanding.get(frame.request);
    if (entry === undefined) this.drops.count('stale');
    else if (!answers(frame, entry.request)) this.drops.count('stray');
    else return entry;
    return undefined;
  }

  #memoryFor(frame: FrameHeader): Buffer | undefined {
    const entry = this.#entryOf(frame);
    if (entry === undefined) return undefined;
    const { pull } = entry;
    const isChunk = frame.status === 'bytes' && pull.name.length > 0;
    if (frame.status === 'bytes' && !isNextChunk(frame, entry)) {
      this.#refuseFrame('offset');
      return undefined;
    }
    const given = isChunk ? pull.owner.memoryFor?.(pull, frame.offset - pull.name.offset, frame.length) : undefined;
    return given ?? this.#scratchOf(frame.length);
  }

  #scratchOf(bytes: number): Buffer {
    if (this.#scratch.length < bytes) this.#scratch = Buffer.allocUnsafeSlow(bytes);
    return this.#scratch.subarray(0, bytes);
  }

  #arrived(frame: FrameHeader, payload: Buffer): void {
    const entry = this.#entryOf(frame);
    if (entry === undefined) return;
    const { pull, request } = entry;
    this.#badFrames = 0;
    if (frame.status === 'here') {
      this.#located(entry, decodeMemoryPlace(payload));
    } else if (frame.status === 'bytes') {
      entry.received += payload.length;
      if (entry.received >= pull.name.length) this.#finish(request.request);
      pull.owner.chunkArrived(pull, frame.offset - pull.name.offset, payload);
    } else {
      this.#finish(request.request);
      pull.owner.refused(pull, frame.status);
    }
  }

  /** If the owner cannot read there, nobody will be able to: from here on everything is pulled. */
  #located({ pull, request }: Outstanding, place: MemoryPlace | undefined): void {
    this.#finish(request.request);
    const readable = this.#pid !== undefined && place !== undefined && place.length === request.length;
    if (readable && pull.owner.locatedHere?.(pull, this.#pid ?? 0, place) === true) return;
    this.#pid = undefined;
    this.want([pull]);
  }

  #finish(number: number): void {
    this.#forget(number);
    this.#send();
  }

  /** What a refused frame belonged to cannot be known for sure: everything that is missing is asked for again on a new stream. */
  #refuseFrame(reason: string): void {
    this.drops.count(reason);
    this.#badFrames++;
    if (this.#badFrames < MOST_BAD_FRAMES_IN_A_ROW) {
      this.#dropConnection();
      this.#requeue();
      this.#open();
      return;
    }
    this.#badFrames = 0;
    this.#reporting = true;
    this.#broke(`its chunks are refused (${reason})`);
  }

  #broke(reason: string): void {
    this.#dropConnection();
    this.#requeue();
    if (this.#closed) return;
    this.#lastReason = reason;
    this.#failures++;
    if (this.#wanted === 0) return;
    if (reason.includes('ECONNREFUSED')) this.#reporting = true;
    if (this.#reporting) this.#tellOwners();
    // An owner that was told may have turned to somebody else.
    if (this.#wanted === 0) return;
    this.#armGrace();
    const backoffMs = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(10, this.#failures - 1));
    this.#retryTimer = setTimeout(() => this.#retry(), backoffMs);
  }

  #retry(): void {
    this.#retryTimer = undefined;
    if (this.#wanted > 0) this.#open();
  }

  #requeue(): void {
    const again = [...this.#outstanding.values()].map(({ pull, received }) => ({ pull, received }));
    this.#queue = [...again, ...this.#queue];
    this.#outstanding.clear();
    this.#outstandingBytes = 0;
  }

  #armGrace(): void {
    if (this.#reporting || this.#graceTimer !== undefined) return;
    const graceMs = this.#everHealthy ? RECONNECT_GRACE_MS : FIRST_CONNECT_GRACE_MS;
    this.#graceTimer = setTimeout(() => {
      this.#graceTimer = undefined;
      if (this.#wanted === 0) return;
      this.#reporting = true;
      this.#tellOwners();
    }, graceMs);
  }

  #stopReporting(): void {
    clearTimeout(this.#graceTimer);
    this.#graceTimer = undefined;
    this.#reporting = false;
  }

  #tellOwners(): void {
    const owners = new Set([...this.#outstanding.values(), ...this.#queue].map(({ pull }) => pull.owner));
    for (const owner of owners) owner.peerFailing(this.peer, this.#lastReason);
  }

  #dropConnection(): void {
    clearTimeout(this.#attemptTimer);
    this.#healthy = false;
    this.#reader?.end();
    this.#reader = undefined;
    this.#call?.close();
    this.#call = undefined;
  }
}

/** Chunks of a pull come in order and are cut at the same places by everybody. */
function isNextChunk({ offset, length }: FrameHeader, { pull, received }: Outstanding): boolean {
  if (pull.name.length === 0) return offset === 0;
  return offset === pull.name.offset + received && length === Math.min(CHUNK_BYTES, pull.name.length - received);
}
