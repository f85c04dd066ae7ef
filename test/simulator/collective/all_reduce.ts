/**
 * Reduces and gathers one step: pulls the partials of the own segment, adds them up, and pulls everybody else's segments. In one shot the
 * own segment is the whole vector.
 */
import { additionsFor, nodeKey, rootOf } from '../../../shared/tree.js';
import { isOneShot } from '../../../worker/collective/routes.js';
import type { CoreDataPlaneCommand } from '../../../worker/core/command.js';
import { mix } from '../hashing.js';
import type { VectorContent } from '../memory.js';
import { add } from '../reference.js';
import type { Exchange } from './exchange.js';
import { type Given, Run } from './pulls.js';

type Placement = Extract<CoreDataPlaneCommand, { readonly kind: 'reduce' }>['placements'][number];

export class AllReduce extends Run {
  override readonly isPatient = true;
  /** The own segment, once it is added up. */
  own: number | undefined;
  readonly #oneShot: boolean;
  readonly #content: VectorContent;
  readonly #values: (Extract<Given, { readonly kind: 'partial' }> | undefined)[];
  /** What was read of partials before they were whole. */
  readonly #early: (Extract<Given, { readonly kind: 'buckets' }> | undefined)[];

  constructor(
    private readonly exchange: Exchange,
    readonly step: number,
    private readonly placements: readonly Placement[],
  ) {
    super(exchange.shelf.job, exchange.generation);
    this.#values = placements.map(() => undefined);
    this.#early = placements.map(() => undefined);
    this.#checkCover();
    const { shelf, generation } = exchange;
    const workers = generation.roster.length;
    this.#oneShot = isOneShot(shelf.memory.vectorBytes, workers, placements);
    this.#content = shelf.emptyVector(generation, step, this.#oneShot ? 1 : workers);
  }

  override failing(rank: number, reason: string): void {
    this.exchange.peerFailed(rank, reason);
  }

  #checkCover(): void {
    const { host, shelf } = this.exchange;
    const leaves = this.placements.flatMap(({ node }) => Array.from({ length: node.length }, (_, i) => node.lo + i));
    const once = new Set(leaves);
    if (leaves.length === shelf.microbatches && once.size === leaves.length) return;
    const nodes = this.placements.map(({ node }) => nodeKey(node)).join(' ');
    host.broken('I3', `placements ${nodes} of ${shelf.microbatches}`);
  }

  start(): void {
    for (const [input, placement] of this.placements.entries()) {
      this.#pullPartial(placement, input);
      this.#pullBuckets(placement, input);
    }
    const others = this.#oneShot
      ? []
      : [...this.generation.roster.keys()].filter((rank) => rank !== this.generation.rank);
    for (const segment of others) this.#pullSegment(segment);
    this.takeOwn();
  }

  #pullPartial({ node, rank }: Placement, input: number): void {
    const { exchange, step, generation } = this;
    if (rank === generation.rank) return;
    exchange.pull({
      run: this,
      rank,
      wanted: { kind: 'partial', step, node },
      over: () => this.ended,
      arrived: (given) => {
        if (given.kind === 'partial') this.#take(input, given);
        this.#fold();
      },
      refused: () => {
        const { worker } = generation.roster[rank] ?? {};
        exchange.host.broken('I3', `worker ${worker} never has ${nodeKey(node)} of step ${step}`);
      },
    });
  }

  #pullBuckets({ node, rank }: Placement, input: number): void {
    if (rank === this.generation.rank) return;
    this.exchange.pull({
      run: this,
      rank,
      wanted: { kind: 'buckets', step: this.step, node },
      over: () => this.ended || this.#values[input] !== undefined,
      arrived: (given) => {
        if (given.kind === 'buckets') this.#early[input] = given;
      },
      refused: () => undefined,
    });
  }

  /** A whole partial. What was read of it before must have been the same bytes: they are in the sums already. */
  #take(input: number, given: Extract<Given, { readonly kind: 'partial' }>): void {
    const early = this.#early[input];
    const differs = early !== undefined && early.value !== given.value;
    const taint = given.taint ?? early?.taint ?? (differs ? 'its first buckets were others before' : undefined);
    this.#values[input] = { ...given, value: differs ? mix(given.value, early.value) : given.value, taint };
  }

  #pullSegment(segment: number): void {
    const { exchange, step, generation } = this;
    exchange.pull({
      run: this,
      rank: segment,
      wanted: { kind: 'segment', step, segment },
      over: () => this.ended,
      arrived: (given) => {
        if (given.kind !== 'segment') return;
        this.#content.segments[segment] = given.value;
        this.#content.taint ??= given.taint;
        this.#finishIfWhole();
      },
      refused: () => {
        const { worker } = generation.roster[segment] ?? {};
        exchange.host.broken('I1', `worker ${worker} has no segment of step ${step}`);
      },
    });
  }

  /** The own partials that are published by now. */
  takeOwn(): void {
    this.placements.forEach(({ node, rank }, input) => {
      if (rank !== this.generation.rank || this.#values[input] !== undefined) return;
      const given = this.exchange.shelf.partialHere(this.generation.generation, this.step, node);
      if (given !== undefined) this.#take(input, given);
      else this.#early[input] ??= this.exchange.shelf.bucketsHere(this.generation.generation, this.step, node);
    });
    this.#fold();
  }

  /** Adds up the own segment once every partial is there. */
  #fold(): void {
    if (this.ended || this.own !== undefined || this.#values.some((value) => value === undefined)) return;
    const { microbatches } = this.exchange.shelf;
    const sums = new Map<string, number>();
    this.placements.forEach(({ node }, input) => {
      sums.set(nodeKey(node), this.#values[input]?.value ?? 0);
      this.#content.taint ??= this.#values[input]?.taint;
    });
    const nodes = this.placements.map(({ node }) => node);
    for (const { left, right, into } of additionsFor(nodes, rootOf(microbatches))) {
      sums.set(nodeKey(into), add(sums.get(nodeKey(left)) ?? 0, sums.get(nodeKey(right)) ?? 0));
    }
    this.own = sums.get(nodeKey({ lo: 0, length: microbatches })) ?? 0;
    this.#content.segments[this.#oneShot ? 0 : this.generation.rank] = this.own;
    this.exchange.wake();
    this.#finishIfWhole();
  }

  #finishIfWhole(): void {
    if (this.ended || this.#content.segments.some((segment) => segment === undefined)) return;
    if (this.#values.some((value) => value === undefined)) return;
    const facts = this.placements.map(({ node }, input) => ({ node, facts: this.#values[input]?.facts }));
    facts.sort((left, right) => left.node.lo - right.node.lo);
    this.exchange.whole(this, this.step, {
      loss: facts.reduce((sum, one) => sum + (one.facts?.loss ?? 0), 0),
      weight: facts.reduce((sum, one) => sum + (one.facts?.weight ?? 0), 0),
      consumed: facts.flatMap((one) => one.facts?.consumed ?? []),
    });
  }
}
