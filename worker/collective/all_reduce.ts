/**
 * Reduces and gathers one step: pulls the own segments of everybody's partials, adds them in tree order straight into the reduced
 * slot, and pulls the other segments from their owners, or from those who carry them to this host, into the same slot.
 */
import { nodeKey, type TreeNode } from '../../shared/tree.js';
import type { PartialFacts, Peer } from './data_plane.js';
import { decodePartialFacts, type MemoryPlace } from './facts.js';
import { HostGroups } from './host_groups.js';
import type { PeerMemory } from './peer_memory.js';
import type { Pull, PullName, PullOwner, Refusal } from './peer_stream.js';
import { type Placement, type PlannedPull, type ReadyChunk, ReducePlan } from './reduce_plan.js';
import { Fold, sumFacts } from './reduction.js';
import type { ReducedResult, Run, RunContext } from './run.js';
import { CHUNK_BYTES, segmentSpan } from './segments.js';
import type { PublishedPartial } from './shelf.js';

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
  readonly done: (result: ReducedResult) => void;
}

/** A chunk of another worker's partial: received, or read where it lies. */
interface Arrived {
  readonly bytes: Buffer;
  /** Whose memory it is in, and the epoch in which it is true; absent if it was received. */
  readonly place: { readonly memory: PeerMemory; readonly epoch: number; readonly rank: number } | undefined;
}

type TaggedPull = { readonly rank: number } & ({ readonly kind: 'facts'; readonly input: number } | PlannedPull);

export class AllReduce implements Run, PullOwner {
  readonly #context: RunContext;
  readonly #slot: number;
  readonly #plan: ReducePlan<Arrived>;
  readonly #fold: Fold;
  /** What each pull's tag stands for. */
  readonly #pulls: TaggedPull[] = [];
  readonly #partials: (PublishedPartial | undefined)[];
  readonly #facts: (PartialFacts | undefined)[];
  readonly #ready: ReadyChunk<Arrived>[] = [];
  /** Memory of received chunks that are not added yet. */
  readonly #held = new Set<Buffer>();
  #turn: NodeJS.Immediate | undefined;
  readonly #retries = new Set<NodeJS.Timeout>();
  readonly #refusedSince = new Map<number, number>();
  #pulledBytes = 0;
  #ended = false;

  constructor(private readonly options: AllReduceOptions) {
    const { context, step, placements } = options;
    const { rank, roster } = context.generation;
    const groups = new HostGroups(roster.map(({ peerAddress }) => peerAddress));
    this.#context = context;
    this.#slot = step % 2;
    this.#fold = new Fold(
      placements.map(({ node }) => node),
      context.microbatches,
    );
    this.#plan = new ReducePlan({
      vectorBytes: context.vectorBytes,
      rank,
      segments: roster.length,
      groups,
      placements,
    });
    this.#partials = placements.map(() => undefined);
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
    this.options.placements.forEach((placement, input) => {
      if (placement.rank !== own || nodeKey(placement.node) !== nodeKey(node) || this.#ended) return;
      this.#partials[input] = partial;
      this.#facts[input] = partial.facts;
      this.#foldSoon(this.#plan.published(input, partial.buckets));
      this.#finishIfDone();
    });
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
    const node = pull.kind === 'reduced' ? undefined : this.options.placements[pull.input]?.node;
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
      segments: generation.roster.length,
      offset: 0,
      length: pull.kind === 'facts' ? 0 : pull.length,
    };
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
        this.#facts[pull.input] = decodePartialFacts(payload);
        if (this.#facts[pull.input] === undefined) this.refused(arrived, 'malformed');
        break;
      case 'partial':
        this.#foldSoon(
          this.#plan.partialArrived(pull.bucket, pull.input, offset, { bytes: payload, place: undefined }),
        );
        break;
      case 'reduced':
        this.#gathered(pull, offset, payload.length);
        break;
    }
    this.#finishIfDone();
  }

  /** The own slot's memory for a part of another worker's segment. */
  #memoryOf({ bucket, segment }: PlannedPull, offset: number, length: number): Buffer {
    const { vectorBytes, generation, memory } = this.#context;
    const { at } = segmentSpan(vectorBytes, bucket, segment, generation.roster.length);
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

  #copy(pull: PlannedPull, memory: PeerMemory, { slot, at, length, epoch }: MemoryPlace): void {
    this.#memoryOf(pull, 0, length).set(memory.bytes(slot, at, length));
    if (memory.epoch !== epoch) {
      this.#hasLeft(pull.rank);
      return;
    }
    this.#gathered(pull, 0, length);
  }

  /** A part of another worker's segment is in the slot. */
  #gathered({ bucket, segment, length: whole }: PlannedPull, offset: number, length: number): void {
    if (offset + length === whole) this.options.segmentHeld(bucket, segment);
    this.#plan.gathered(bucket, length);
    this.#want(this.#plan.nextPulls());
  }

  #readInPlace(
    { bucket, input, rank }: PlannedPull & { readonly kind: 'partial' },
    memory: PeerMemory,
    { slot, at, length, epoch }: MemoryPlace,
  ): void {
    for (let offset = 0; offset < length; offset += CHUNK_BYTES) {
      const bytes = memory.bytes(slot, at + offset, Math.min(CHUNK_BYTES, length - offset));
      this.#foldSoon(this.#plan.partialArrived(bucket, input, offset, { bytes, place: { memory, epoch, rank } }));
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

  #foldChunk({ bucket, at, length, inputs }: ReadyChunk<Arrived>): void {
    const { memory, bf16Bytes } = this.#context;
    const operands = inputs.map(
      (input, index) => input?.bytes ?? memory.bytes(this.#partials[index]?.slot ?? -1, at, length),
    );
    const narrow = Math.min(length, Math.max(0, bf16Bytes - at));
    this.#fold.run(operands, memory.bytes(this.#slot, at, length), narrow);
    for (const input of inputs) if (input !== undefined && !this.#isTrue(input)) return;
    if (this.#plan.folded(bucket)) this.options.segmentHeld(bucket, this.#context.generation.rank);
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

  #finishIfDone(): void {
    if (this.#ended) return;
    if (!this.#plan.done) return;
    const given = this.options.placements.flatMap(({ node }, index) => {
      const facts = this.#facts[index];
      return facts === undefined ? [] : [{ node, facts }];
    });
    if (given.length < this.#facts.length) return;
    this.stop();
    const facts = sumFacts(given, this.#context.microbatches);
    this.options.done({ step: this.step, facts, pulledBytes: this.#pulledBytes });
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
