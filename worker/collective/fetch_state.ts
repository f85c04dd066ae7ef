/**
 * Pulls a training state from several peers at once and verifies it.
 *
 * Peers that give the same length and digest are taken to hold the same state, and each sends some of its pieces. When the whole
 * does not match its digest, one of them sent bad bytes: then each peer is tried alone, and the bad one is named.
 */
import { createHash } from 'node:crypto';
import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Peer } from './data_plane.js';
import { decodeStateFacts, type StateFacts } from './facts.js';
import type { Pull, PullName, PullOwner, Refusal } from './peer_stream.js';
import type { Run, RunContext } from './run.js';

const PIECE_BYTES = 4 * 1024 * 1024;
const PIECES_IN_FLIGHT = 2;
const AGAIN_AFTER_MS = 500;

export interface FetchStateOptions {
  readonly context: RunContext;
  /** Steps that the state has committed. */
  readonly committed: number;
  readonly ranks: readonly number[];
  readonly fd: number;
  /** The whole, verified state of `bytes` bytes is in the file. */
  readonly done: (bytes: number) => void;
}

interface Source {
  readonly peer: Peer;
  facts: StateFacts | undefined;
  /** Why it is out of the question for now. */
  failure: string | undefined;
  piecesInFlight: number;
}

interface Piece {
  readonly at: number;
  readonly length: number;
}

/** One try to get the whole state, from every source with the same facts or from a single one. */
interface Attempt {
  readonly facts: StateFacts;
  readonly only: Source | undefined;
  readonly todo: Piece[];
  readonly contributors: Set<Source>;
  missingBytes: number;
}

interface Pulling {
  readonly source: Source;
  /** Absent when the facts are pulled. */
  readonly piece: Piece | undefined;
  received: number;
}

export class FetchState implements Run, PullOwner {
  readonly #context: RunContext;
  readonly #sources: readonly Source[];
  readonly #pulling: Pulling[] = [];
  #attempt: Attempt | undefined;
  /** A mix of sources gave a bad whole: from now on one source at a time. */
  #oneAtATime = false;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(private readonly options: FetchStateOptions) {
    const { context, ranks } = options;
    this.#context = context;
    this.#sources = [...new Set(ranks)].map((rank) => {
      const peer = context.generation.roster[rank];
      if (peer === undefined) throw new Error(`rank ${rank} is not in the roster`);
      return { peer, facts: undefined, failure: undefined, piecesInFlight: 0 };
    });
  }

  start(): void {
    this.#timer = undefined;
    for (const source of this.#sources) {
      source.failure = undefined;
      source.facts = undefined;
      this.#want(source, undefined);
    }
  }

  stop(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#context.cancel(this);
  }

  #want(source: Source, piece: Piece | undefined): void {
    const tag = this.#pulling.push({ source, piece, received: 0 }) - 1;
    this.#context.want(source.peer, [{ owner: this, tag, name: this.#nameOf(piece) }]);
  }

  #nameOf(piece: Piece | undefined): PullName {
    const { job, generation } = this.#context;
    return {
      kind: piece === undefined ? 'stateFacts' : 'state',
      job,
      term: generation.term,
      generation: generation.generation,
      step: this.options.committed,
      nodeLo: 0,
      nodeLength: 0,
      bucket: 0,
      segment: 0,
      segments: 1,
      offset: piece?.at ?? 0,
      length: piece?.length ?? 0,
    };
  }

  chunkArrived({ tag }: Pull, offset: number, payload: Buffer): void {
    const pulling = this.#pulling[tag];
    if (pulling === undefined) throw new Error(`no pull has tag ${tag}`);
    if (pulling.piece === undefined) this.#factsArrived(pulling.source, decodeStateFacts(payload));
    else this.#bytesArrived(pulling, pulling.piece, offset, payload);
  }

  #factsArrived(source: Source, facts: StateFacts | undefined): void {
    source.facts = facts;
    if (facts === undefined) {
      this.#sourceFailed(source, 'sent malformed facts');
      return;
    }
    if (this.#attempt === undefined) this.#tryNext();
    else if (!sameFacts(facts, this.#attempt.facts)) {
      this.#warn(`${source.peer.worker} has another state than the one being fetched: ${facts.sha256}`);
    }
    this.#assign();
  }

  #bytesArrived(pulling: Pulling, piece: Piece, offset: number, payload: Buffer): void {
    const attempt = this.#attempt;
    if (attempt === undefined) return;
    writeSync(this.options.fd, payload, 0, payload.length, piece.at + offset);
    pulling.received += payload.length;
    attempt.missingBytes -= payload.length;
    if (pulling.received < piece.length) return;
    pulling.source.piecesInFlight--;
    attempt.contributors.add(pulling.source);
    if (attempt.missingBytes === 0) void this.#verify(attempt);
    else this.#assign();
  }

  /** Chooses what to fetch next among the sources whose facts are known and that have not failed. */
  #tryNext(): void {
    this.#attempt = undefined;
    const source = this.#sources.find(({ facts, failure }) => facts !== undefined && failure === undefined);
    if (source?.facts !== undefined) this.#begin(source.facts, this.#oneAtATime ? source : undefined);
    else if (this.#sources.every(({ failure }) => failure !== undefined)) this.#allFailed();
  }

  #begin(facts: StateFacts, only: Source | undefined): void {
    const { fd } = this.options;
    if (fstatSync(fd).size < facts.bytes) ftruncateSync(fd, facts.bytes);
    const todo: Piece[] = [];
    for (let at = 0; at < facts.bytes; at += PIECE_BYTES) {
      todo.push({ at, length: Math.min(PIECE_BYTES, facts.bytes - at) });
    }
    this.#attempt = { facts, only, todo, contributors: new Set(), missingBytes: facts.bytes };
    if (facts.bytes === 0) void this.#verify(this.#attempt);
    else this.#assign();
  }

  #assign(): void {
    const attempt = this.#attempt;
    if (attempt === undefined) return;
    for (let round = 0; round < PIECES_IN_FLIGHT; round++) {
      for (const source of this.#sources) {
        if (!canSend(source, attempt) || source.piecesInFlight > round) continue;
        const piece = attempt.todo.shift();
        if (piece === undefined) return;
        source.piecesInFlight++;
        this.#want(source, piece);
      }
    }
  }

  async #verify(attempt: Attempt): Promise<void> {
    const sha256 = await this.#digest(attempt.facts.bytes);
    if (this.#ended) return;
    if (sha256 === attempt.facts.sha256) {
      this.stop();
      this.options.done(attempt.facts.bytes);
      return;
    }
    const [first, ...others] = attempt.contributors;
    if (first !== undefined && others.length === 0) {
      first.failure = 'served a corrupt state';
      this.#warn(`${first.peer.worker} served a corrupt state: sha256 ${sha256} instead of ${attempt.facts.sha256}`);
    } else {
      this.#oneAtATime = true;
      this.#warn('the state pulled from several workers is corrupt; trying each of them alone');
    }
    this.#tryNext();
  }

  /** Hashed piece by piece, so that the thread's other work goes on. */
  async #digest(bytes: number): Promise<string> {
    const hash = createHash('sha256');
    const piece = Buffer.alloc(Math.min(PIECE_BYTES, bytes));
    for (let at = 0; at < bytes && !this.#ended; at += PIECE_BYTES) {
      const length = readSync(this.options.fd, piece, 0, Math.min(PIECE_BYTES, bytes - at), at);
      hash.update(piece.subarray(0, length));
      await setImmediate();
    }
    return hash.digest('hex');
  }

  refused({ tag }: Pull, reason: Refusal): void {
    const source = this.#pulling[tag]?.source;
    if (source !== undefined) this.#sourceFailed(source, `answers ${reason}`);
  }

  peerFailing(peer: Peer, reason: string): void {
    const source = this.#sources.find((other) => other.peer.worker === peer.worker);
    if (source !== undefined) this.#sourceFailed(source, reason);
  }

  /** What the source was to send is left to the others. */
  #sourceFailed(source: Source, reason: string): void {
    if (source.failure !== undefined || this.#ended) return;
    source.failure = reason;
    source.piecesInFlight = 0;
    this.#context.cancel(this, source.peer);
    const attempt = this.#attempt;
    for (const pulling of this.#pulling) {
      if (pulling.source !== source || pulling.piece === undefined || pulling.received === pulling.piece.length)
        continue;
      attempt?.todo.push(pulling.piece);
      if (attempt !== undefined) attempt.missingBytes += pulling.received;
      pulling.received = pulling.piece.length;
    }
    const verifying = attempt?.missingBytes === 0;
    if (verifying) return;
    if (attempt !== undefined && this.#sources.some((other) => canSend(other, attempt))) this.#assign();
    else this.#tryNext();
  }

  #allFailed(): void {
    for (const { peer, failure } of this.#sources) this.#context.peerFailed(peer.worker, failure ?? 'no answer');
    this.#oneAtATime = false;
    this.#timer ??= setTimeout(() => this.start(), AGAIN_AFTER_MS);
  }

  #warn(line: string): void {
    this.#context.log('warn', `job ${this.#context.job}: ${line}`);
  }
}

function sameFacts(a: StateFacts, b: StateFacts): boolean {
  return a.bytes === b.bytes && a.sha256 === b.sha256;
}

function canSend(source: Source, attempt: Attempt): boolean {
  if (source.failure !== undefined || source.facts === undefined) return false;
  return attempt.only === undefined ? sameFacts(source.facts, attempt.facts) : source === attempt.only;
}
