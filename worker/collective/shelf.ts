/**
 * What one job has on offer for its peers, and what a request for it gets. Pure: it says where bytes are, never touches them.
 *
 * Three rules keep two sums of one step apart (invariant I1):
 * - while a step is being reduced its slot holds no committed vector, only segments that were reduced in the generation that is running:
 *   by this worker, or by their owners, from whom they were gathered in that same generation;
 * - peers that reduce in a generation are given only what was reduced in that same generation, and only sums of partials that were added
 *   in it;
 * - a worker that catches up (it asks with one segment a bucket) is given only whole, committed vectors.
 */
import { nodeKey, rootOf, type TreeNode } from '../../shared/tree.js';
import type { PullRequest } from '../../shared/wire/peer.js';
import { areRangesOf, covers, MOST_RANGES } from './byte_ranges.js';
import type { PartialFacts, Peer } from './data_plane.js';
import type { StateFacts } from './facts.js';
import { bucketSpan, segmentSpan } from './segments.js';

export interface Generation {
  readonly term: number;
  readonly generation: number;
  readonly rank: number;
  readonly roster: readonly Peer[];
}

export interface PublishedPartial {
  readonly slot: number;
  /** So many of its buckets are final. */
  readonly buckets: number;
  /** There when all of it is. */
  readonly facts: PartialFacts | undefined;
}

export interface PublishedState extends StateFacts {
  readonly committed: number;
  readonly fd: number;
}

interface ReducedVector {
  readonly step: number;
  readonly generation: number;
  readonly facts: PartialFacts;
}

/** Bytes that can be read now. Offsets and lengths are in bytes and already take the request's own offset into account. */
export type Located =
  | { readonly kind: 'slot'; readonly slot: number; readonly at: number; readonly length: number }
  | { readonly kind: 'memory'; readonly memory: Buffer; readonly at: number; readonly length: number }
  | { readonly kind: 'state'; readonly fd: number; readonly at: number; readonly length: number }
  | { readonly kind: 'partial_facts'; readonly facts: PartialFacts }
  | { readonly kind: 'state_facts'; readonly facts: StateFacts };

export type Answer =
  | { readonly kind: 'found'; readonly located: Located }
  /** Look again when `event` has happened. */
  | { readonly kind: 'wait'; readonly event: string }
  | { readonly kind: 'refused'; readonly status: 'gone' | 'unknown' };

const GONE: Answer = { kind: 'refused', status: 'gone' };
const UNKNOWN: Answer = { kind: 'refused', status: 'unknown' };

/** Names of the things that requests wait for. */
export const shelfEvent = {
  generation: 'generation',
  partial: (step: number, node: TreeNode): string => `partial ${step} ${nodeKey(node)}`,
  sum: (step: number, node: TreeNode, bucket: number, segment: number): string =>
    `sum ${step} ${nodeKey(node)} ${bucket} ${segment}`,
  segment: (step: number, bucket: number, segment: number): string => `segment ${step} ${bucket} ${segment}`,
  state: 'state',
};

export class Shelf {
  #generation: Generation | undefined;
  /** Generations up to this one have ended here, except the one that is running. */
  #highest = { generation: 0, term: 0 };
  readonly #partials = new Map<number, Map<string, PublishedPartial>>();
  #partialsFrom = 0;
  /** By slot, which is step % 2. */
  readonly #vectors: [ReducedVector | undefined, ReducedVector | undefined] = [undefined, undefined];
  /** Segments of sums that were added up for their owners in the generation that is running, by step. */
  readonly #sums = new Map<number, Map<string, Buffer>>();
  /** Which segments are in the slot, by step that is being reduced in the generation that is running. */
  readonly #reducing = new Map<number, Set<string>>();
  #newestStep = -1;
  #state: PublishedState | undefined;

  constructor(
    readonly vectorBytes: number,
    readonly microbatches: number,
  ) {}

  get generation(): Generation | undefined {
    return this.#generation;
  }

  start(generation: Generation): void {
    this.stop();
    this.#generation = generation;
    this.#highest = generation;
  }

  stop(): void {
    this.#generation = undefined;
    this.#reducing.clear();
    this.#sums.clear();
  }

  publish(step: number, node: TreeNode, partial: PublishedPartial): void {
    const ofStep = this.#partials.get(step) ?? new Map<string, PublishedPartial>();
    this.#partials.set(step, ofStep.set(nodeKey(node), partial));
  }

  partial(step: number, node: TreeNode): PublishedPartial | undefined {
    return this.#partials.get(step)?.get(nodeKey(node));
  }

  /** The whole segment of the bucket of a sum is in the memory: added up in the generation that is running. */
  holdSum(step: number, node: TreeNode, bucket: number, segment: number, memory: Buffer): void {
    const ofStep = this.#sums.get(step) ?? new Map<string, Buffer>();
    this.#sums.set(step, ofStep.set(shelfEvent.sum(step, node, bucket, segment), memory));
  }

  /** Partials and sums of steps below will not be asked for again. Returns the memory of those sums. */
  dropPartials(below: number): readonly Buffer[] {
    this.#partialsFrom = Math.max(this.#partialsFrom, below);
    for (const step of this.#partials.keys()) if (step < below) this.#partials.delete(step);
    const dropped = [...this.#sums].filter(([step]) => step < below);
    for (const [step] of dropped) this.#sums.delete(step);
    return dropped.flatMap(([, ofStep]) => [...ofStep.values()]);
  }

  /** The slot of `step` is about to be written: whatever it held is gone. */
  beginReduction(step: number): void {
    this.#vectors[step % 2] = undefined;
    this.#reducing.set(step, new Set());
    this.#newestStep = Math.max(this.#newestStep, step);
  }

  /** The whole segment of the bucket is in the slot of `step`: reduced here, or gathered, in the generation that is running. */
  holdSegment(step: number, bucket: number, segment: number): void {
    this.#reducing.get(step)?.add(shelfEvent.segment(step, bucket, segment));
  }

  /** The slot of `step` holds the whole reduced vector. */
  commit(step: number, facts: PartialFacts): void {
    if (this.#generation === undefined) throw new Error(`step ${step} was committed outside of any generation`);
    this.#reducing.delete(step);
    this.#vectors[step % 2] = { step, generation: this.#generation.generation, facts };
  }

  publishState(state: PublishedState): void {
    if (!areRangesOf(state.bytes, state.ranges) || state.ranges.length > MOST_RANGES)
      throw new Error(`the published ranges of the state after ${state.committed} steps are no runs of its bytes`);
    this.#state = state;
  }

  /** What the request gets now. */
  lookUp(request: PullRequest): Answer {
    const current = this.#generation;
    if (current === undefined || request.generation !== current.generation || request.term !== current.term) {
      return this.#isNewer(request) ? { kind: 'wait', event: shelfEvent.generation } : GONE;
    }
    const asks = current.roster.find(({ worker }) => worker === request.worker);
    if (asks?.incarnation !== request.incarnation) return GONE;
    switch (request.kind) {
      case 'partial':
        return this.#lookUpPartial(request, current);
      case 'sum':
        return this.#lookUpSum(request, current);
      case 'reduced':
        return request.segments === 1 ? this.#lookUpCommitted(request) : this.#lookUpReduced(request, current);
      case 'facts':
        return this.#lookUpFacts(request);
      case 'state':
      case 'stateFacts':
        return this.#lookUpState(request);
      case 'probe':
        return UNKNOWN; // It is of no job, so it comes to none's shelf.
    }
  }

  #isNewer({ generation, term }: PullRequest): boolean {
    return (
      generation > this.#highest.generation || (generation === this.#highest.generation && term > this.#highest.term)
    );
  }

  #lookUpPartial(request: PullRequest, current: Generation): Answer {
    const node = { lo: request.nodeLo, length: request.nodeLength };
    const isCut = request.segments === current.roster.length || request.segments === 1;
    if (request.step < this.#partialsFrom || !isCut) return UNKNOWN;
    const partial = this.partial(request.step, node);
    if (partial === undefined || partial.buckets <= request.bucket) {
      return { kind: 'wait', event: shelfEvent.partial(request.step, node) };
    }
    return this.#segmentOf(request, partial.slot);
  }

  #lookUpSum(request: PullRequest, current: Generation): Answer {
    const { step, bucket, segment, offset, length } = request;
    if (step < this.#partialsFrom || request.segments !== current.roster.length) return UNKNOWN;
    const event = shelfEvent.sum(step, { lo: request.nodeLo, length: request.nodeLength }, bucket, segment);
    const memory = this.#sums.get(step)?.get(event);
    if (memory === undefined) return { kind: 'wait', event };
    if (offset + length > memory.length) return UNKNOWN;
    return { kind: 'found', located: { kind: 'memory', memory, at: offset, length } };
  }

  #lookUpCommitted(request: PullRequest): Answer {
    if (this.#vectors[request.step % 2]?.step !== request.step) return UNKNOWN;
    return this.#segmentOf(request, request.step % 2);
  }

  #lookUpReduced(request: PullRequest, current: Generation): Answer {
    const { step, bucket, segment } = request;
    if (request.segments !== current.roster.length || step + 2 <= this.#newestStep) return UNKNOWN;
    const vector = this.#vectors[step % 2];
    const whole = vector?.step === step && vector.generation === current.generation;
    const event = shelfEvent.segment(step, bucket, segment);
    if (whole || this.#reducing.get(step)?.has(event) === true) return this.#segmentOf(request, step % 2);
    return { kind: 'wait', event };
  }

  #lookUpFacts(request: PullRequest): Answer {
    const node = { lo: request.nodeLo, length: request.nodeLength };
    const facts = this.partial(request.step, node)?.facts ?? this.#totalFacts(request.step, node);
    if (facts !== undefined) return { kind: 'found', located: { kind: 'partial_facts', facts } };
    if (request.segments === 1 || request.step < this.#partialsFrom) return UNKNOWN;
    return { kind: 'wait', event: shelfEvent.partial(request.step, node) };
  }

  #totalFacts(step: number, node: TreeNode): PartialFacts | undefined {
    const vector = this.#vectors[step % 2];
    return vector?.step === step && nodeKey(node) === nodeKey(rootOf(this.microbatches)) ? vector.facts : undefined;
  }

  #lookUpState(request: PullRequest): Answer {
    const state = this.#state;
    if (state === undefined || state.committed < request.step) return { kind: 'wait', event: shelfEvent.state };
    if (state.committed > request.step) return UNKNOWN;
    if (request.kind === 'stateFacts') return { kind: 'found', located: { kind: 'state_facts', facts: state } };
    if (!covers(state.ranges, { at: request.offset, length: request.length })) return UNKNOWN;
    return {
      kind: 'found',
      located: { kind: 'state', fd: state.fd, at: request.offset, length: request.length },
    };
  }

  /** Where the rest of a segment is, from the request's offset on. */
  #segmentOf({ bucket, segment, segments, offset, length }: PullRequest, slot: number): Answer {
    const span =
      segments === 1 ? bucketSpan(this.vectorBytes, bucket) : segmentSpan(this.vectorBytes, bucket, segment, segments);
    if (segment >= segments || offset + length > span.length) return UNKNOWN;
    return { kind: 'found', located: { kind: 'slot', slot, at: span.at + offset, length } };
  }
}
