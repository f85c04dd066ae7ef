/**
 * Reduces and gathers one step: pulls the own segment of everybody's partials, or of the sums that other hosts have made of theirs, adds
 * them in tree order straight into the reduced slot, and pulls the other segments from their owners, or from those who carry them to this
 * host, into the same slot. In the same way it adds up what it carries for owners on other hosts. In one shot it is all of every partial that
 * is pulled and added (routes.ts).
 */
import { nodeKey, type TreeNode } from '../../shared/tree.js';
import type { PartialFacts, Peer } from './data_plane.js';
import { decodePartialFacts, type MemoryPlace } from './facts.js';
import { HostGroups } from './host_groups.js';
import type { PeerMemory } from './peer_memory.js';
import type { Pull, PullName, PullOwner, Refusal } from './peer_stream.js';
import { type GatherPull, type PlannedPull, ReducePlan } from './reduce_plan.js';
import { sumFacts } from './reduction.js';
import { type Placement, type Routes, routesFor, type SegmentSum } from './routes.js';
import type { ReducedResult, Run, RunContext } from './run.js';
import type { ReadyChunk, TermPull } from './segment_fold.js';
import { CHUNK_BYTES, segmentSpan } from './segments.js';
import type { PublishedPartial } from './shelf.js';
import { SumWriter } from './sum_writer.js';

/** Chunks folded in one turn of the event loop: about a millisecond of work. */
const CHUNKS_A_TURN = 8;
const REFUSED_RETRY_MS = 100;
/** A peer of this generation that refuses for so long has left it. */
const REFUSED_REPORT_MS = 2000;

export interface AllReduceOptions {
  readonly context: RunContext;
  readonly step: number;
  readonly placements: readonly Placement[];
  /** The whole segment of a bucket is in the slot. */
  readonly segmentHeld: (bucket: number, segment: number) => void;
  /** The whole segment of a bucket of a carried sum is in the memory, which now belongs to whoever is told. */
  readonly sumHeld: (sum: SegmentSum, bucket: number, memory: Buffer) => void;
  readonly done: (result: ReducedResult) => void;
}

/** A chunk of another worker's partial or sum: received, or read where it lies. */
interface Arrived {
  readonly bytes: Buffer;
  /** Whose memory it is in, and the epoch in which it is true; absent if it was received. */
  readonly place: { readonly memory: PeerMemory; readonly epoch: number; readonly rank: number } | undefined;
}

type TaggedPull = { readonly rank: number } & ({ readonly kind: 'facts'; readonly input: number } | PlannedPull);

export class AllReduce implements Run, PullOwner {
  readonly #context: RunContext;
  readonly #slot: number;
  readonly #routes: Routes;
  readonly #plan: ReducePlan<Arrived>;
  readonly #sums: SumWriter;
  /** What each pull's tag stands for. */
  readonly #pulls: TaggedPull[] = [];
  readonly #facts: (PartialFacts | undefined)[];
  readonly #ready: ReadyChunk<Arrived>[] = [];
  /** Memory of received chunks that are not added yet. */
  readonly #held = new Set<Buffer>();
  #turn: NodeJS.Immediate | undefined;
  readonly #retries = new Set<NodeJS.Timeout>();
  readonly #refusedSince = new Map<number, number>();
  #pulledBytes = 0;
  /** When the newest own segment was; where all of them are empty, there was never anything to reduce. */
  #ownReducedMs = performance.now();
  /** The own segment of the last bucket is reduced and not offered yet. */
  #lastIsReduced: boolean;
  #ended = false;

  constructor(private readonly options: AllReduceOptions) {
    const { context, step, placements } = options;
    const { rank, roster } = context.generation;
    const { vectorBytes, microbatches } = context;
    const groups = new HostGroups(roster.map(({ peerAddress }) => peerAddress));
    const routes = routesFor({ vectorBytes, rank, groups, microbatches, placements });
    this.#context = context;
    this.#slot = step % 2;
    this.#routes = routes;
    this.#plan = new ReducePlan({ vectorBytes, rank, routes });
    this.#lastIsReduced = this.#plan.lastIsEmpty;
    this.#sums = new SumWriter({ context, slot: this.#slot, routes });
    this.#facts = placements.map(() => undefined);
  }

  get step(): number {
    return this.options.step;
  }

  start(): void {
    const { rank: own } = this.#context.generation;
    this.options.placements.forEach(({ rank }, input) => {
      if (rank !== own) this.#want([{ kind: 'facts', input, rank }]);
    });
    this.#want(this.#plan.nextPulls());
    this.#finishIfDone();
  }

  stop(): void {
    this.#ended = true;
    this.#context.cancel(this);
    for (const chunk of this.#held) this.#context.chunks.giveBack(chunk);
    this.#held.clear();
    clearImmediate(this.#turn);
    for (const retry of this.#retries) clearTimeout(retry);
  }

  /** A partial of this worker, or some buckets of it, are final in its slot. */
  published(node: TreeNode, partial: PublishedPartial): void {
    const { rank: own } = this.#context.generation;
    const isThis = (placed: Placement): boolean => placed.rank === own && nodeKey(placed.node) === nodeKey(node);
    const input = this.options.placements.findIndex(isThis);
    if (input < 0 || this.#ended) return;
    this.#facts[input] = partial.facts;
    this.#sums.published(node, partial);
    this.#foldSoon(this.#plan.published(node, partial.buckets));
    this.#finishIfDone();
  }

  #want(pulls: readonly TaggedPull[]): void {
    const byRank = new Map<number, Pull[]>();
    for (const pull of pulls) {
      const tag = this.#pulls.push(pull) - 1;
      const ofRank = byRank.get(pull.rank) ?? [];
      byRank.set(pull.rank, ofRank);
      ofRank.push({ owner: this, name: this.#nameOf(pull), tag });
    }
    for (const [rank, ofRank] of byRank) this.#context.want(this.#peer(rank), ofRank);
  }

  #nameOf(pull: TaggedPull): PullName {
    const { job, generation } = this.#context;
    const node = this.#nodeOf(pull);
    return {
      kind: pull.kind,
      job,
      term: generation.term,
      generation: generation.generation,
      step: this.step,
      nodeLo: node?.lo ?? 0,
      nodeLength: node?.length ?? 0,
      bucket: pull.kind === 'facts' ? 0 : pull.bucket,
      segment: pull.kind === 'facts' ? 0 : pull.segment,
      segments: pull.kind === 'facts' ? generation.roster.length : this.#routes.segments,
      offset: 0,
      length: pull.kind === 'facts' ? 0 : pull.length,
    };
  }

  #nodeOf(pull: TaggedPull): TreeNode | undefined {
    if (pull.kind === 'facts') return this.options.placements[pull.input]?.node;
    return pull.kind === 'reduced' ? undefined : pull.node;
  }

  #peer(rank: number): Peer {
    const peer = this.#context.generation.roster[rank];
    if (peer === undefined) throw new Error(`rank ${rank} is not in the roster`);
    return peer;
  }

  #pullOf({ tag }: Pull): TaggedPull {
    const pull = this.#pulls[tag];
    if (pull === undefined) throw new Error(`no pull has tag ${tag}`);
    return pull;
  }

  memoryFor(arriving: Pull, offset: number, length: number): Buffer {
    const pull = this.#pullOf(arriving);
    if (pull.kind === 'reduced') return this.#memoryOf(pull, offset, length);
    const chunk = this.#context.chunks.take(length);
    this.#held.add(chunk);
    return chunk;
  }

  chunkArrived(arrived: Pull, offset: number, payload: Buffer): void {
    const pull = this.#pullOf(arrived);
    this.#pulledBytes += payload.length;
    this.#refusedSince.delete(pull.rank);
    switch (pull.kind) {
      case 'facts':
        this.#facts[pull.input] = decodePartialFacts(payload, this.options.placements[pull.input]?.node.length ?? 0);
        if (this.#facts[pull.input] === undefined) this.refused(arrived, 'malformed');
        break;
      case 'partial':
      case 'sum':
        this.#foldSoon(this.#plan.arrived(pull, offset, { bytes: payload, place: undefined }));
        break;
      case 'reduced':
        this.#gathered(pull, offset, payload.length);
        break;
    }
    this.#finishIfDone();
  }

  /** The own slot's memory for a part of another worker's segment. */
  #memoryOf({ bucket, segment }: GatherPull, offset: number, length: number): Buffer {
    const { vectorBytes, memory } = this.#context;
    const { at } = segmentSpan(vectorBytes, bucket, segment, this.#routes.segments);
    return memory.bytes(this.#slot, at + offset, length);
  }

  locatedHere(located: Pull, pid: number, place: MemoryPlace): boolean {
    const pull = this.#pullOf(located);
    const memory = pull.kind === 'facts' ? undefined : this.#context.memoryOf(this.#peer(pull.rank), pid, place);
    if (pull.kind === 'facts' || memory === undefined) return false;
    this.#pulledBytes += place.length;
    this.#refusedSince.delete(pull.rank);
    if (pull.kind === 'reduced') this.#copy(pull, memory, place);
    else this.#readInPlace(pull, memory, place);
    this.#finishIfDone();
    return true;
  }

  #copy(pull: GatherPull, memory: PeerMemory, { slot, at, length, epoch }: MemoryPlace): void {
    this.#memoryOf(pull, 0, length).set(memory.bytes(slot, at, length));
    if (memory.epoch !== epoch) {
      this.#hasLeft(pull.rank);
      return;
    }
    this.#gathered(pull, 0, length);
  }

  /** A part of another worker's segment is in the slot. */
  #gathered({ bucket, segment, length: whole }: GatherPull, offset: number, length: number): void {
    if (offset + length === whole) this.options.segmentHeld(bucket, segment);
    this.#plan.gathered(bucket, length);
    this.#want(this.#plan.nextPulls());
  }

  #readInPlace(pull: TermPull, memory: PeerMemory, { slot, at, length, epoch }: MemoryPlace): void {
    const { rank } = pull;
    for (let offset = 0; offset < length; offset += CHUNK_BYTES) {
      const bytes = memory.bytes(slot, at + offset, Math.min(CHUNK_BYTES, length - offset));
      this.#foldSoon(this.#plan.arrived(pull, offset, { bytes, place: { memory, epoch, rank } }));
    }
  }

  /** What was read in the peer's memory may have been something else already. It has left the generation, as this worker soon will. */
  #hasLeft(rank: number): void {
    const report = setTimeout(() => {
      this.#retries.delete(report);
      this.#context.peerFailed(this.#peer(rank).worker, 'has left the generation');
    }, REFUSED_REPORT_MS);
    this.#retries.add(report);
  }

  #foldSoon(chunks: readonly ReadyChunk<Arrived>[]): void {
    for (const chunk of chunks) this.#ready.push(chunk);
    if (this.#ready.length > 0) this.#turn ??= setImmediate(() => this.#foldSome());
  }

  #foldSome(): void {
    this.#turn = undefined;
    for (const chunk of this.#ready.splice(0, CHUNKS_A_TURN)) this.#foldChunk(chunk);
    this.#want(this.#plan.nextPulls());
    this.#foldSoon([]);
    this.#finishIfDone();
  }

  #foldChunk(chunk: ReadyChunk<Arrived>): void {
    const { sum, bucket, inputs } = chunk;
    this.#sums.add(
      chunk,
      inputs.map((input) => input?.bytes),
    );
    for (const input of inputs) if (input !== undefined && !this.#isTrue(input)) return;
    if (!this.#plan.folded(chunk)) return;
    if (sum === this.#routes.own) this.#ownSegmentReduced(bucket);
    else this.options.sumHeld(sum, bucket, this.#sums.take(chunk));
  }

  /** Whether the operand was what it should be until it was added. */
  #isTrue({ bytes, place }: Arrived): boolean {
    if (place === undefined) {
      this.#held.delete(bytes);
      this.#context.chunks.giveBack(bytes);
      return true;
    }
    if (place.memory.epoch === place.epoch) return true;
    this.#hasLeft(place.rank);
    return false;
  }

  /**
   * The own segment of the last bucket is offered when everybody's facts are here, too, and even if it is empty: so nobody commits a step, and
   * drops what belongs to it, while this worker still needs something of it.
   */
  #ownSegmentReduced(bucket: number): void {
    this.#ownReducedMs = performance.now();
    if (bucket === this.#plan.lastBucket) this.#lastIsReduced = true;
    else this.options.segmentHeld(bucket, this.#routes.own.segment);
  }

  #offerLast(): void {
    if (!this.#lastIsReduced || this.#facts.includes(undefined)) return;
    this.#lastIsReduced = false;
    this.options.segmentHeld(this.#plan.lastBucket, this.#routes.own.segment);
  }

  #finishIfDone(): void {
    if (this.#ended) return;
    this.#offerLast();
    if (!this.#plan.done) return;
    const given = this.options.placements.flatMap(({ node }, index) => {
      const facts = this.#facts[index];
      return facts === undefined ? [] : [{ node, facts }];
    });
    if (given.length < this.#facts.length) return;
    this.stop();
    const facts = sumFacts(given, this.#context.microbatches);
    const gatherMs = performance.now() - this.#ownReducedMs;
    this.options.done({ step: this.step, facts, pulledBytes: this.#pulledBytes, gatherMs });
  }

  /** The peer has stopped this generation, or not opened the job: either we are told to stop soon, or it comes back. */
  refused(refused: Pull, reason: Refusal): void {
    const pull = this.#pullOf(refused);
    const since = this.#refusedSince.get(pull.rank) ?? performance.now();
    this.#refusedSince.set(pull.rank, since);
    if (performance.now() - since > REFUSED_REPORT_MS)
      this.#context.peerFailed(this.#peer(pull.rank).worker, `answers ${reason}`);
    const retry = setTimeout(() => {
      this.#retries.delete(retry);
      this.#want([pull]);
    }, REFUSED_RETRY_MS);
    this.#retries.add(retry);
  }

  peerFailing({ worker }: Peer, reason: string): void {
    this.#context.peerFailed(worker, reason);
  }
}
