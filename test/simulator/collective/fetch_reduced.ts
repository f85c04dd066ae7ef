/** Pulls the whole reduced vector of a step that others have committed, from one peer after the other. */
import type { VectorContent } from '../memory.js';
import type { Exchange } from './exchange.js';
import { Run } from './pulls.js';

const AGAIN_MS = 200;

export class FetchReduced extends Run {
  readonly #content: VectorContent;
  readonly #failures = new Map<number, string>();
  /** Peers that were asked. */
  #turn = 0;

  constructor(
    private readonly exchange: Exchange,
    private readonly step: number,
    private readonly ranks: readonly number[],
  ) {
    super(exchange.shelf.job, exchange.generation);
    if (ranks.length === 0) exchange.host.broken('I12', `nobody to fetch the reduced vector of step ${step} from`);
    this.#content = exchange.shelf.emptyVector(exchange.generation, step, 1);
  }

  override failing(_rank: number, reason: string): void {
    this.#next(reason);
  }

  start(): void {
    const asked = this.#turn;
    const over = () => this.ended || asked !== this.#turn;
    this.exchange.pull({
      run: this,
      rank: this.ranks[asked % this.ranks.length] ?? 0,
      wanted: { kind: 'vector', step: this.step },
      over,
      arrived: (given) => {
        if (given.kind !== 'vector' || over()) return;
        this.#content.segments[0] = given.gradient;
        this.#content.taint = given.taint ?? (given.gradient === undefined ? 'segments of different sums' : undefined);
        this.exchange.whole(this, this.step, given.facts);
      },
      refused: (status) => this.#next(`answers ${status}`),
    });
  }

  #next(reason: string): void {
    const { ranks } = this;
    this.#failures.set(ranks[this.#turn % ranks.length] ?? 0, reason);
    this.#turn += 1;
    this.failingSince.clear();
    const round = this.#turn % ranks.length === 0;
    if (round) for (const [rank, problem] of this.#failures) this.exchange.peerFailed(rank, problem);
    this.exchange.host.later(round ? AGAIN_MS : 0, () => this.start());
  }
}
