/** What one job has on offer for its peers, and what a request for it gets; after worker/collective/shelf.ts. */
import { nodeKey, type TreeNode } from '../../../shared/tree.js';
import { covers } from '../../../worker/collective/byte_ranges.js';
import type { PartialFacts } from '../../../worker/collective/data_plane.js';
import type { StateFacts } from '../../../worker/collective/facts.js';
import { Image } from '../checkpoint/image.js';
import { mix } from '../hashing.js';
import { gradientOf, type Memory, type VectorContent } from '../memory.js';
import type { WorkerHost } from '../worker_host.js';
import type { AllReduce } from './all_reduce.js';
import type { SimulatedDataPlane } from './data_plane.js';
import type { Answer, Generation, Given, Pull, Run, Wanted } from './pulls.js';

/** Weights of bytes that a peer has spoilt. */
const SPOILT = 777;

interface CommittedVector {
  readonly step: number;
  readonly generation: number;
  readonly facts: PartialFacts;
  /** The core has said that it commits it. */
  confirmed: boolean;
}

interface PublishedPartial {
  readonly slot: number;
  readonly facts: PartialFacts;
}

/** The first buckets of a partial that is not whole yet. */
interface PublishedBuckets {
  readonly slot: number;
  readonly buckets: number;
}

export interface PublishedState extends StateFacts {
  readonly committed: number;
}

export class Shelf {
  generation: Generation | undefined;
  #highest = { generation: 0, term: 0 };
  readonly #partials = new Map<number, Map<string, PublishedPartial>>();
  readonly #buckets = new Map<number, Map<string, PublishedBuckets>>();
  #partialsFrom = 0;
  readonly #vectors: [CommittedVector | undefined, CommittedVector | undefined] = [undefined, undefined];
  /** The steps that are being reduced, with the own segment once it is there. */
  readonly reducing = new Map<number, AllReduce>();
  #state: PublishedState | undefined;
  readonly runs = new Set<Run>();
  /** Pulls of others that wait for something to happen here. */
  waiting: { readonly pull: Pull; readonly from: SimulatedDataPlane }[] = [];
  readonly reported = new Set<string>();

  constructor(
    readonly host: WorkerHost,
    readonly job: string,
    /** Name of the job in its spec. */
    readonly name: string,
    readonly microbatches: number,
    readonly memory: Memory,
  ) {}

  get current(): Generation {
    return this.generation ?? this.host.broken('I5', `job ${this.job} is in no generation`);
  }

  start(generation: Generation): void {
    this.stop();
    this.reported.clear();
    this.generation = generation;
    this.#highest = generation;
  }

  stop(): void {
    for (const run of this.runs) run.ended = true;
    this.runs.clear();
    this.generation = undefined;
    this.reducing.clear();
    this.#vectors.forEach((vector, slot) => {
      if (vector?.confirmed === false) this.#vectors[slot] = undefined;
    });
  }

  publishPartial(step: number, node: TreeNode, partial: PublishedPartial): void {
    const ofStep = this.#partials.get(step) ?? new Map<string, PublishedPartial>();
    this.#partials.set(step, ofStep.set(nodeKey(node), partial));
  }

  publishBuckets(step: number, node: TreeNode, { slot, buckets }: PublishedBuckets): void {
    const ofStep = this.#buckets.get(step) ?? new Map<string, PublishedBuckets>();
    this.#buckets.set(step, ofStep.set(nodeKey(node), { slot, buckets }));
  }

  dropPartials(below: number): void {
    this.#partialsFrom = Math.max(this.#partialsFrom, below);
    for (const known of [this.#partials, this.#buckets]) {
      for (const step of known.keys()) if (step < below) known.delete(step);
    }
    // After one shot the partials of the step that is committed stay.
    for (const vector of this.#vectors) if (vector !== undefined && vector.step <= below) vector.confirmed = true;
  }

  publishState(state: PublishedState): void {
    this.#state = state;
  }

  /** The slot of `step` is about to be written. */
  emptyVector(generation: Generation, step: number, segments: number): VectorContent {
    this.#vectors[step % 2] = undefined;
    const content: VectorContent = {
      kind: 'vector',
      step,
      generation: generation.generation,
      segments: Array.from({ length: segments }, () => undefined),
      taint: undefined,
    };
    this.memory.slots.set(step % 2, content);
    return content;
  }

  wholeVector(step: number, generation: Generation, facts: PartialFacts): void {
    this.reducing.delete(step);
    this.#vectors[step % 2] = { step, generation: generation.generation, facts, confirmed: false };
  }

  lookUp(generation: Generation, from: WorkerHost, wanted: Wanted): Answer {
    const current = this.generation;
    if (current?.generation !== generation.generation || current.term !== generation.term) {
      const newer =
        generation.generation > this.#highest.generation ||
        (generation.generation === this.#highest.generation && generation.term > this.#highest.term);
      return newer ? { kind: 'wait' } : { kind: 'refused', status: 'gone' };
    }
    if (!current.roster.some((peer) => peer.worker === from.name && peer.incarnation === from.incarnation)) {
      return { kind: 'refused', status: 'gone' };
    }
    return this.#find(current, wanted);
  }

  #find(current: Generation, wanted: Wanted): Answer {
    switch (wanted.kind) {
      case 'partial': {
        if (wanted.step < this.#partialsFrom) return { kind: 'refused', status: 'unknown' };
        const given = this.partialHere(current.generation, wanted.step, wanted.node);
        return given === undefined ? { kind: 'wait' } : { kind: 'found', given };
      }
      case 'buckets': {
        if (wanted.step < this.#partialsFrom) return { kind: 'refused', status: 'unknown' };
        const given = this.bucketsHere(current.generation, wanted.step, wanted.node);
        return given === undefined ? { kind: 'wait' } : { kind: 'found', given };
      }
      case 'segment':
        return this.#findSegment(current, wanted.step);
      case 'vector': {
        const vector = this.#vectors[wanted.step % 2];
        if (vector?.step !== wanted.step || !vector.confirmed) return { kind: 'refused', status: 'unknown' };
        const content = this.memory.slots.get(wanted.step % 2);
        const taint = content?.kind === 'vector' ? content.taint : 'there is no vector in the slot';
        return { kind: 'found', given: { kind: 'vector', gradient: gradientOf(content), facts: vector.facts, taint } };
      }
      case 'state_facts':
      case 'state':
        return this.#findState(wanted);
    }
  }

  /** A partial that is published here, and whether the slot really holds it. */
  partialHere(
    generation: number,
    step: number,
    node: TreeNode,
  ): Extract<Given, { readonly kind: 'partial' }> | undefined {
    const published = this.#partials.get(step)?.get(nodeKey(node));
    if (published === undefined) return undefined;
    const read = this.#read(generation, step, node, { slot: published.slot, buckets: this.memory.buckets });
    return { kind: 'partial', facts: published.facts, ...read };
  }

  /** The first buckets of a partial, as many as are published here, and whether the slot really holds them. */
  bucketsHere(
    generation: number,
    step: number,
    node: TreeNode,
  ): Extract<Given, { readonly kind: 'buckets' }> | undefined {
    const published = this.#buckets.get(step)?.get(nodeKey(node));
    return published && { kind: 'buckets', ...this.#read(generation, step, node, published) };
  }

  #read(generation: number, step: number, node: TreeNode, { slot, buckets }: PublishedBuckets) {
    const { host } = this;
    const content = this.memory.slots.get(slot);
    const right =
      content?.kind === 'partial' &&
      content.job === this.name &&
      content.step === step &&
      content.buckets >= buckets &&
      nodeKey(content.node) === nodeKey(node);
    const found =
      content?.kind === 'partial'
        ? `${content.buckets} buckets of ${nodeKey(content.node)} of step ${content.step}`
        : content?.kind;
    const name = `${buckets} buckets of ${nodeKey(node)} of step ${step} on ${host.name}`;
    const isCurrent = right && content.weights === host.world.oracle.weightsOf(this.job, generation, step);
    const problem = right ? `${name} were computed from other weights` : `the slot of ${name} holds ${found}`;
    return { value: right ? content.value : mix(step, 13), taint: isCurrent ? undefined : problem };
  }

  /** Only what was reduced in this generation is given to peers that reduce in it. */
  #findSegment(current: Generation, step: number): Answer {
    const vector = this.#vectors[step % 2];
    const whole = vector?.step === step && vector.generation === current.generation;
    const own = this.reducing.get(step)?.own;
    if (!whole && own === undefined) {
      const newest = Math.max(...this.reducing.keys(), vector?.step ?? -1);
      return step + 2 <= newest ? { kind: 'refused', status: 'unknown' } : { kind: 'wait' };
    }
    const content = this.memory.slots.get(step % 2);
    if (content?.kind !== 'vector' || content.step !== step) {
      return {
        kind: 'found',
        given: { kind: 'segment', value: mix(step, 17), taint: `the slot of step ${step} was overwritten` },
      };
    }
    const value = content.segments[current.rank] ?? mix(step, 19);
    return { kind: 'found', given: { kind: 'segment', value, taint: content.taint } };
  }

  #findState(wanted: Extract<Wanted, { readonly kind: 'state_facts' | 'state' }>): Answer {
    const state = this.#state;
    if (state === undefined || state.committed < wanted.committed) return { kind: 'wait' };
    if (state.committed > wanted.committed) return { kind: 'refused', status: 'unknown' };
    if (wanted.kind === 'state_facts') return { kind: 'found', given: { kind: 'state_facts', facts: state } };
    if (!covers(state.ranges, wanted.range)) return { kind: 'refused', status: 'unknown' };
    const { random, spoiltPieces } = this.host.world;
    const image = new Image();
    if (spoiltPieces > 0 && random.chance(spoiltPieces)) image.fill({ committed: state.committed, weights: SPOILT });
    else image.copy(wanted.range, this.memory.state);
    return { kind: 'found', given: { kind: 'state', image } };
  }
}
