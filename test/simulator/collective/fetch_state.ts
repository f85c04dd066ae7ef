/**
 * Pulls a training state from several peers, after worker/collective/fetch_state.ts: whatever state they have, or the parts of an expected
 * one that are missing here. Which source is to send which piece is what the real data plane makes of it.
 */
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import { covers } from '../../../worker/collective/byte_ranges.js';
import type { StateFacts } from '../../../worker/collective/facts.js';
import { StateAttempt, type StateIdentity, type StateSource } from '../../../worker/collective/state_attempt.js';
import type { Image } from '../checkpoint/image.js';
import type { Exchange } from './exchange.js';
import { type Given, type Refusal, Run } from './pulls.js';

const AGAIN_AFTER_MS = 500;

interface Source extends StateSource {
  readonly rank: number;
  /** What is being pulled from it. */
  readonly pulling: Set<ByteRange>;
  /** Pulls of older rounds are over. */
  round: number;
}

type Attempt = StateAttempt<Source>;

export interface FetchStateOptions {
  readonly committed: number;
  readonly ranks: readonly number[];
  /** Where the state is put together. */
  readonly image: Image;
  readonly expected: StateIdentity | undefined;
  readonly missing: readonly ByteRange[] | undefined;
  readonly done: (bytes: number) => void;
  readonly corrupt: () => void;
}

export class FetchState extends Run {
  readonly #sources: readonly Source[];
  #attempt: Attempt | undefined;
  #oneAtATime = false;
  #verifying = false;
  #asksAgain = false;

  constructor(
    private readonly exchange: Exchange,
    private readonly options: FetchStateOptions,
  ) {
    super(exchange.shelf.job, exchange.generation);
    const { ranks, committed, expected, missing } = options;
    if (ranks.length === 0) exchange.host.broken('I12', `nobody to fetch the state after ${committed} steps from`);
    this.#sources = [...new Set(ranks)].map((rank) => {
      const peer = exchange.generation.roster[rank];
      if (peer === undefined) return exchange.host.broken('I12', `rank ${rank} is not in the roster`);
      return { peer, rank, facts: undefined, failure: undefined, pullsInFlight: 0, pulling: new Set(), round: 0 };
    });
    if (expected !== undefined) {
      this.#attempt = this.#attemptAt(expected, missing ?? [wholeOf(expected)], this.#sources);
    }
  }

  start(): void {
    for (const source of this.#sources) this.#want(source, undefined);
    this.#proceed();
  }

  override failing(rank: number, reason: string): void {
    const source = this.#sources.find((other) => other.rank === rank);
    if (source !== undefined) this.#sourceFailed(source, reason);
  }

  #attemptAt(state: StateIdentity, missing: readonly ByteRange[], sources: readonly Source[]): Attempt {
    return new StateAttempt({ state, missing, sources });
  }

  #proceed(): void {
    if (this.ended || this.#verifying) return;
    this.#attempt = this.#attemptToMake();
    const attempt = this.#attempt;
    if (attempt === undefined) {
      if (this.#sources.every(({ failure }) => failure !== undefined)) this.#giveUp();
      return;
    }
    attempt.assign((source, piece) => this.#want(source, piece));
    if (attempt.whole) this.#verify(attempt);
    else if (attempt.lacksSource) this.#giveUp();
  }

  #attemptToMake(): Attempt | undefined {
    if (this.options.expected !== undefined || this.#attempt?.hasSource === true) return this.#attempt;
    for (const source of this.#sources) {
      const { facts } = source;
      if (facts !== undefined)
        return this.#attemptAt(facts, [wholeOf(facts)], this.#oneAtATime ? [source] : this.#sources);
    }
    return undefined;
  }

  /** Pulls a piece, or the facts. */
  #want(source: Source, piece: ByteRange | undefined): void {
    const { committed } = this.options;
    const { round } = source;
    const over = () => this.ended || source.round !== round;
    source.pullsInFlight += 1;
    if (piece !== undefined) source.pulling.add(piece);
    this.exchange.pull({
      run: this,
      rank: source.rank,
      wanted: piece === undefined ? { kind: 'state_facts', committed } : { kind: 'state', committed, range: piece },
      over,
      arrived: (given) => {
        if (!over()) this.#arrived(source, piece, given);
      },
      refused: (status) => {
        if (!over()) this.#refused(source, status);
      },
    });
  }

  #arrived(source: Source, piece: ByteRange | undefined, given: Given): void {
    source.pullsInFlight -= 1;
    if (given.kind === 'state_facts') this.#factsArrived(source, given.facts);
    else if (given.kind === 'state' && piece !== undefined) {
      this.options.image.copy(piece, given.image);
      source.pulling.delete(piece);
      this.#attempt?.pulled(source);
      this.#proceed();
    }
  }

  #factsArrived(source: Source, facts: StateFacts): void {
    if (this.options.expected === undefined && !covers(facts.ranges, wholeOf(facts))) this.#askLater(source);
    else {
      source.facts = facts;
      this.#proceed();
    }
  }

  #verify(attempt: Attempt): void {
    const { host } = this.exchange;
    const { image, expected, done, corrupt } = this.options;
    this.#verifying = true;
    host.later(host.world.random.between(0.1, 3), () => {
      this.#verifying = false;
      if (this.ended) return;
      if (image.sha256 === attempt.state.sha256) {
        this.#end();
        done(attempt.state.bytes);
      } else if (expected !== undefined) {
        this.#end();
        corrupt();
      } else {
        this.#suspect(attempt);
        this.#attempt = undefined;
        this.#proceed();
      }
    });
  }

  #end(): void {
    this.ended = true;
    this.exchange.shelf.runs.delete(this);
  }

  #suspect({ culprit }: Attempt): void {
    if (culprit === undefined) this.#oneAtATime = true;
    else {
      this.#release(culprit);
      culprit.failure = 'served a corrupt state';
    }
  }

  #refused(source: Source, status: Refusal): void {
    if (status === 'unknown' && this.options.expected !== undefined) this.#askLater(source);
    else this.#sourceFailed(source, `answers ${status}`);
  }

  #sourceFailed(source: Source, reason: string): void {
    if (source.failure !== undefined || this.ended) return;
    this.#release(source);
    source.failure = reason;
    if (this.options.expected !== undefined) this.#askAgainSoon();
    this.#proceed();
  }

  #askLater(source: Source): void {
    this.#release(source);
    this.#askAgainSoon();
    this.#proceed();
  }

  /** What the source was to send is left to the others. */
  #release(source: Source): void {
    source.facts = undefined;
    source.pullsInFlight = 0;
    source.round += 1;
    for (const piece of source.pulling) this.#attempt?.giveBack(piece);
    source.pulling.clear();
  }

  #giveUp(): void {
    for (const { rank, failure } of this.#sources) if (failure !== undefined) this.exchange.peerFailed(rank, failure);
    this.#oneAtATime = false;
    this.#askAgainSoon();
  }

  #askAgainSoon(): void {
    if (this.#asksAgain) return;
    this.#asksAgain = true;
    this.exchange.host.later(AGAIN_AFTER_MS, () => {
      this.#asksAgain = false;
      if (this.ended) return;
      this.failingSince.clear();
      for (const source of this.#sources) {
        if (source.pullsInFlight > 0) continue;
        source.failure = undefined;
        source.facts = undefined;
        this.#want(source, undefined);
      }
    });
  }
}

function wholeOf({ bytes }: StateIdentity): ByteRange {
  return { at: 0, length: bytes };
}
