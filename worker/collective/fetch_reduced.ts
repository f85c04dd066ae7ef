/** Catches up with a step that others have committed: pulls its whole reduced vector and its facts from one of them. */
import { rootOf } from '../../shared/tree.js';
import type { PartialFacts, Peer } from './data_plane.js';
import { decodePartialFacts } from './facts.js';
import type { Pull, PullName, PullOwner, Refusal } from './peer_stream.js';
import type { ReducedResult, Run, RunContext } from './run.js';
import { bucketCount, bucketSpan } from './segments.js';

const AGAIN_AFTER_MS = 200;

export interface FetchReducedOptions {
  readonly context: RunContext;
  readonly step: number;
  /** Whom to ask, in this order. */
  readonly ranks: readonly number[];
  readonly done: (result: ReducedResult) => void;
}

/** Tag of the pull of the facts; buckets have their number. */
const FACTS_TAG = -1;

export class FetchReduced implements Run, PullOwner {
  readonly #context: RunContext;
  readonly #buckets: number;
  /** Bytes received of each bucket. All of them come from the same committed vector, whoever sends them. */
  readonly #received: number[];
  #facts: PartialFacts | undefined;
  #turn = 0;
  readonly #failures = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #pulledBytes = 0;
  /** Nothing is reduced here: all of it is gathered. */
  readonly #beganMs = performance.now();
  #ended = false;

  constructor(private readonly options: FetchReducedOptions) {
    this.#context = options.context;
    this.#buckets = bucketCount(options.context.vectorBytes);
    this.#received = new Array<number>(this.#buckets).fill(0);
  }

  start(): void {
    this.#timer = undefined;
    const missing = [...this.#received.keys()].filter((bucket) => this.#missing(bucket) > 0);
    const tags = this.#facts === undefined ? [FACTS_TAG, ...missing] : missing;
    this.#context.want(
      this.#source(),
      tags.map((tag) => ({ owner: this, tag, name: this.#nameOf(tag) })),
    );
  }

  stop(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#context.cancel(this);
  }

  #source(): Peer {
    const { ranks, context } = this.options;
    const peer = context.generation.roster[ranks[this.#turn % ranks.length] ?? -1];
    if (peer === undefined) throw new Error('nobody is named to fetch the reduced vector from');
    return peer;
  }

  #missing(bucket: number): number {
    return bucketSpan(this.#context.vectorBytes, bucket).length - (this.#received[bucket] ?? 0);
  }

  #nameOf(tag: number): PullName {
    const { job, generation, microbatches } = this.#context;
    const facts = tag === FACTS_TAG;
    const root = rootOf(facts ? microbatches : 0);
    return {
      kind: facts ? 'facts' : 'reduced',
      job,
      term: generation.term,
      generation: generation.generation,
      step: this.options.step,
      nodeLo: root.lo,
      nodeLength: root.length,
      bucket: facts ? 0 : tag,
      segment: 0,
      // One segment a bucket: only a committed vector will do.
      segments: 1,
      offset: facts ? 0 : (this.#received[tag] ?? 0),
      length: facts ? 0 : this.#missing(tag),
    };
  }

  memoryFor({ tag, name }: Pull, offset: number, length: number): Buffer {
    const { memory, vectorBytes } = this.#context;
    return memory.bytes(this.options.step % 2, bucketSpan(vectorBytes, tag).at + name.offset + offset, length);
  }

  chunkArrived(pull: Pull, offset: number, payload: Buffer): void {
    const { tag, name } = pull;
    this.#pulledBytes += payload.length;
    if (tag === FACTS_TAG) {
      this.#facts = decodePartialFacts(payload, this.#context.microbatches);
      if (this.#facts === undefined) this.refused(pull, 'malformed');
    } else {
      this.#received[tag] = name.offset + offset + payload.length;
    }
    if (this.#facts !== undefined && this.#received.every((_, bucket) => this.#missing(bucket) === 0))
      this.#finish(this.#facts);
  }

  #finish(facts: PartialFacts): void {
    const { step, done } = this.options;
    this.stop();
    done({ step, facts, pulledBytes: this.#pulledBytes, gatherMs: performance.now() - this.#beganMs });
  }

  refused(_pull: Pull, reason: Refusal): void {
    this.#tryNext(this.#source(), `answers ${reason}`);
  }

  peerFailing(peer: Peer, reason: string): void {
    if (peer.worker === this.#source().worker) this.#tryNext(peer, reason);
  }

  /** Goes on with the next source; when all have failed they are reported, and asked again a little later. */
  #tryNext(failed: Peer, reason: string): void {
    if (this.#ended || this.#timer !== undefined) return;
    this.#context.cancel(this);
    this.#failures.set(failed.worker, reason);
    this.#turn++;
    const round = this.#turn % this.options.ranks.length === 0;
    if (round) for (const [worker, problem] of this.#failures) this.#context.peerFailed(worker, problem);
    this.#timer = setTimeout(() => this.start(), round ? AGAIN_AFTER_MS : 0);
  }
}
