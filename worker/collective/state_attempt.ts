/** One try to put a state together: which source is to send which piece of it. Pure. */
import type { ByteRange } from '../checkpoint/checkpoints.js';
import { covers } from './byte_ranges.js';
import type { Peer } from './data_plane.js';
import type { StateFacts } from './facts.js';
import { StatePieces } from './state_pieces.js';

const PIECES_IN_FLIGHT = 2;

/** Names one state: those with the same identity have the same bytes. */
export type StateIdentity = Pick<StateFacts, 'bytes' | 'sha256'>;

export function isSameState(a: StateIdentity, b: StateIdentity): boolean {
  return a.bytes === b.bytes && a.sha256 === b.sha256;
}

/** A peer that may have the state, or parts of it. */
export interface StateSource {
  readonly peer: Peer;
  /** What it has; unknown until it answers, which it does when it has published. */
  facts: StateFacts | undefined;
  /** Why it is out of the question for now. Then its facts are forgotten. */
  failure: string | undefined;
  /** Pieces, or the facts. */
  pullsInFlight: number;
}

export interface StateAttemptOptions<S extends StateSource> {
  readonly state: StateIdentity;
  /** What is not in the file yet. */
  readonly missing: readonly ByteRange[];
  readonly sources: readonly S[];
}

export class StateAttempt<S extends StateSource> {
  readonly state: StateIdentity;
  readonly #sources: readonly S[];
  readonly #pieces: StatePieces;
  readonly #contributors = new Set<S>();

  constructor({ state, missing, sources }: StateAttemptOptions<S>) {
    this.state = state;
    this.#sources = sources;
    this.#pieces = new StatePieces(missing);
  }

  /** Everything that was missing has arrived. */
  get whole(): boolean {
    return this.#pieces.whole;
  }

  /** Hands pieces to the sources that have them and have room. */
  assign(want: (source: S, piece: ByteRange) => void): void {
    for (let round = 0; round < PIECES_IN_FLIGHT; round++) {
      for (const source of this.#sources) {
        if (source.pullsInFlight > round) continue;
        const piece = this.#pieces.take(this.#offerOf(source));
        if (piece !== undefined) want(source, piece);
      }
    }
  }

  pulled(source: S): void {
    this.#pieces.pulled();
    this.#contributors.add(source);
  }

  giveBack(piece: ByteRange): void {
    this.#pieces.giveBack(piece);
  }

  /** Whether a source can send anything of the state now. */
  get hasSource(): boolean {
    return this.#sources.some((source) => this.#offerOf(source).length > 0);
  }

  /** Whether there is a piece that no source has, nor may turn out to have. */
  get lacksSource(): boolean {
    return this.#pieces.next.some((piece) => !this.#sources.some((source) => this.#maySend(source, piece)));
  }

  /** The one who must have sent what is bad, if it was only one. */
  get culprit(): S | undefined {
    const [first, ...others] = this.#sources.length === 1 ? this.#sources : this.#contributors;
    return others.length === 0 ? first : undefined;
  }

  #offerOf({ facts }: S): readonly ByteRange[] {
    return facts !== undefined && isSameState(facts, this.state) ? facts.ranges : [];
  }

  #maySend(source: S, piece: ByteRange): boolean {
    if (source.facts === undefined) return source.failure === undefined;
    return covers(this.#offerOf(source), piece);
  }
}
