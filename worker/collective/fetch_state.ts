/**
 * Pulls a training state from several peers at once and verifies it.
 *
 * A worker that heals takes whatever state its peers have. Those that give the same length and digest are taken to hold the same state, and
 * each sends some of its pieces. When the whole does not match its digest, one of them sent bad bytes: then each peer is tried alone, and
 * the bad one is named.
 *
 * A worker that restores has read its part of a checkpoint, knows which state it is putting together, and pulls each missing range from the
 * peers that have read it. When the whole does not match there is no telling who has sent bad bytes, and the fetch ends.
 */
import { fstatSync, ftruncateSync, writeSync } from 'node:fs';
import type { ByteRange } from '../checkpoint/checkpoints.js';
import { covers } from './byte_ranges.js';
import type { Peer } from './data_plane.js';
import { decodeStateFacts, type StateFacts } from './facts.js';
import type { Pull, PullName, PullOwner, Refusal } from './peer_stream.js';
import type { Run, RunContext } from './run.js';
import { isSameState, StateAttempt, type StateIdentity, type StateSource } from './state_attempt.js';
import { stateDigest } from './state_digest.js';

const AGAIN_AFTER_MS = 500;

export interface FetchStateOptions {
  readonly context: RunContext;
  /** Steps that the state has committed. */
  readonly committed: number;
  readonly ranks: readonly number[];
  readonly fd: number;
  /** The state to put together; absent: whatever the sources have. */
  readonly expected: StateIdentity | undefined;
  /** What is not in the file yet; absent: all of it. */
  readonly missing: readonly ByteRange[] | undefined;
  /** The whole, verified state of `bytes` bytes is in the file. */
  readonly done: (bytes: number) => void;
  /** Everything has been pulled, and the whole is not the expected state. */
  readonly corrupt: () => void;
}

interface Source extends StateSource {
  /** It has been said that this source has another state. */
  leftOut: boolean;
}

type Attempt = StateAttempt<Source>;

interface Pulling {
  readonly source: Source;
  /** Absent when the facts are pulled. */
  readonly piece: ByteRange | undefined;
  received: number;
}

export class FetchState implements Run, PullOwner {
  readonly #context: RunContext;
  readonly #sources: readonly Source[];
  /** What is being pulled, by tag. */
  readonly #pulling = new Map<number, Pulling>();
  #nextTag = 0;
  #attempt: Attempt | undefined;
  /** A mix of sources gave a bad whole: from now on one source at a time. */
  #oneAtATime = false;
  #verifying = false;
  #saidThatStuck = false;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(private readonly options: FetchStateOptions) {
    const { context, ranks, expected, missing } = options;
    if (missing !== undefined && expected === undefined) throw new Error('a part of no particular state is fetched');
    this.#context = context;
    this.#sources = [...new Set(ranks)].map((rank) => {
      const peer = context.generation.roster[rank];
      if (peer === undefined) throw new Error(`rank ${rank} is not in the roster`);
      return { peer, facts: undefined, failure: undefined, pullsInFlight: 0, leftOut: false };
    });
  }

  start(): void {
    const { expected, missing } = this.options;
    if (expected !== undefined)
      this.#attempt = this.#attemptAt(expected, missing ?? [wholeOf(expected)], this.#sources);
    for (const source of this.#sources) this.#want(source, undefined);
    this.#proceed();
  }

  stop(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#context.cancel(this);
  }

  #attemptAt(state: StateIdentity, missing: readonly ByteRange[], sources: readonly Source[]): Attempt {
    const { fd } = this.options;
    if (fstatSync(fd).size < state.bytes) ftruncateSync(fd, state.bytes);
    return new StateAttempt({ state, missing, sources });
  }

  /** Hands out what can be pulled by what is known now, and sees to it when something cannot be had from anybody. */
  #proceed(): void {
    if (this.#ended || this.#verifying) return;
    this.#attempt = this.#attemptToMake();
    const attempt = this.#attempt;
    if (attempt === undefined) {
      if (this.#sources.every(({ failure }) => failure !== undefined)) this.#giveUp();
      return;
    }
    attempt.assign((source, piece) => this.#want(source, piece));
    if (attempt.whole) void this.#verify(attempt);
    else if (attempt.lacksSource) this.#giveUp();
  }

  /** When no particular state is expected and the one being fetched has no source left, another state or another source is tried. */
  #attemptToMake(): Attempt | undefined {
    if (this.options.expected !== undefined || this.#attempt?.hasSource === true) return this.#attempt;
    for (const source of this.#sources) {
      const { facts } = source;
      if (facts !== undefined)
        return this.#attemptAt(facts, [wholeOf(facts)], this.#oneAtATime ? [source] : this.#sources);
    }
    return undefined;
  }

  #want(source: Source, piece: ByteRange | undefined): void {
    const tag = this.#nextTag++;
    this.#pulling.set(tag, { source, piece, received: 0 });
    source.pullsInFlight++;
    this.#context.want(source.peer, [{ owner: this, tag, name: this.#nameOf(piece) }]);
  }

  #nameOf(piece: ByteRange | undefined): PullName {
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

  #pullingOf({ tag }: Pull): Pulling {
    const pulling = this.#pulling.get(tag);
    if (pulling === undefined) throw new Error(`no pull has tag ${tag}`);
    return pulling;
  }

  chunkArrived(pull: Pull, offset: number, payload: Buffer): void {
    const pulling = this.#pullingOf(pull);
    const { source, piece } = pulling;
    pulling.received += payload.length;
    if (piece !== undefined) {
      writeSync(this.options.fd, payload, 0, payload.length, piece.at + offset);
      if (pulling.received < piece.length) return;
    }
    this.#pulling.delete(pull.tag);
    source.pullsInFlight--;
    if (piece === undefined) this.#factsArrived(source, decodeStateFacts(payload));
    else this.#pieceArrived(source);
  }

  #pieceArrived(source: Source): void {
    this.#attempt?.pulled(source);
    this.#proceed();
  }

  #factsArrived(source: Source, facts: StateFacts | undefined): void {
    if (facts === undefined) this.#sourceFailed(source, 'sent malformed facts');
    else if (this.options.expected === undefined && !covers(facts.ranges, wholeOf(facts))) this.#askLater(source);
    else {
      source.facts = facts;
      this.#proceed();
      if (this.#attempt !== undefined && !isSameState(facts, this.#attempt.state)) this.#warnOfLeftOut(source, facts);
    }
  }

  async #verify(attempt: Attempt): Promise<void> {
    const { fd, expected, done, corrupt } = this.options;
    this.#verifying = true;
    const sha256 = await stateDigest(fd, attempt.state.bytes, () => this.#ended);
    this.#verifying = false;
    if (this.#ended) return;
    if (sha256 === attempt.state.sha256) {
      this.stop();
      done(attempt.state.bytes);
    } else if (expected !== undefined) {
      this.stop();
      this.#warn(
        `the state put together from several parts is corrupt: sha256 ${sha256} instead of ${expected.sha256}`,
      );
      corrupt();
    } else {
      this.#suspect(attempt, sha256);
      this.#attempt = undefined;
      this.#proceed();
    }
  }

  #suspect({ culprit, state }: Attempt, sha256: string | undefined): void {
    if (culprit !== undefined) {
      this.#release(culprit);
      culprit.failure = 'served a corrupt state';
      this.#warn(`${culprit.peer.worker} served a corrupt state: sha256 ${sha256} instead of ${state.sha256}`);
    } else {
      this.#oneAtATime = true;
      this.#warn('the state pulled from several workers is corrupt; trying each of them alone');
    }
  }

  refused(pull: Pull, reason: Refusal): void {
    const { source } = this.#pullingOf(pull);
    // All members restore at once: one that has not opened the job yet, or has its part of another checkpoint still, will have this one.
    if (reason === 'unknown' && this.options.expected !== undefined) this.#askLater(source);
    else this.#sourceFailed(source, `answers ${reason}`);
  }

  peerFailing(peer: Peer, reason: string): void {
    const source = this.#sources.find((other) => other.peer.worker === peer.worker);
    if (source !== undefined) this.#sourceFailed(source, reason);
  }

  #sourceFailed(source: Source, reason: string): void {
    if (source.failure !== undefined || this.#ended) return;
    this.#release(source);
    source.failure = reason;
    // Others may be busy for minutes before it shows that this one is needed; a link that was down for a moment should be back by then.
    if (this.options.expected !== undefined) this.#askAgainSoon();
    this.#proceed();
  }

  /** The source has not got what is wanted of it, but may have it soon. */
  #askLater(source: Source): void {
    this.#release(source);
    this.#askAgainSoon();
    this.#proceed();
  }

  /** What the source was to send is left to the others. */
  #release(source: Source): void {
    source.facts = undefined;
    source.pullsInFlight = 0;
    this.#context.cancel(this, source.peer);
    for (const [tag, pulling] of this.#pulling) {
      if (pulling.source !== source) continue;
      this.#pulling.delete(tag);
      if (pulling.piece !== undefined) this.#attempt?.giveBack(pulling.piece);
    }
  }

  /** Nobody can send what is missing: those that have failed are reported, and all are asked again a little later. */
  #giveUp(): void {
    const failed = this.#sources.filter(({ failure }) => failure !== undefined);
    for (const { peer, failure } of failed) this.#context.peerFailed(peer.worker, failure ?? '');
    if (failed.length === 0 && !this.#saidThatStuck) {
      this.#saidThatStuck = true;
      this.#warn(`no worker has all that is missing of the state after ${this.options.committed} steps; asking again`);
    }
    this.#oneAtATime = false;
    this.#askAgainSoon();
  }

  #askAgainSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const source of this.#sources) {
        if (source.pullsInFlight > 0) continue;
        source.failure = undefined;
        source.facts = undefined;
        this.#want(source, undefined);
      }
    }, AGAIN_AFTER_MS);
  }

  #warnOfLeftOut(source: Source, { sha256 }: StateFacts): void {
    if (source.leftOut) return;
    source.leftOut = true;
    this.#warn(`${source.peer.worker} has another state than the one being fetched: ${sha256}`);
  }

  #warn(line: string): void {
    this.#context.log('warn', `job ${this.#context.job}: ${line}`);
  }
}

function wholeOf({ bytes }: StateIdentity): ByteRange {
  return { at: 0, length: bytes };
}
