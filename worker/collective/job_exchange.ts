/** One job in the data plane: its memory, what it serves, its generation and what runs in it. */
import type { TreeNode } from '../../shared/tree.js';
import { AllReduce } from './all_reduce.js';
import type { DataPlaneCommand, DataPlaneEvent, Peer } from './data_plane.js';
import { ExchangeMemory } from './exchange_memory.js';
import type { MemoryPlace } from './facts.js';
import { FetchReduced } from './fetch_reduced.js';
import { FetchState } from './fetch_state.js';
import { MemoryPool } from './memory_pool.js';
import { Epoch, inodeOf, PeerMemory } from './peer_memory.js';
import type { Serving } from './peer_server.js';
import type { Pull, PullOwner } from './peer_stream.js';
import type { ReducedResult, Run, RunContext } from './run.js';
import { CHUNK_BYTES, longestSegment } from './segments.js';
import { type Generation, type PublishedPartial, Shelf, shelfEvent } from './shelf.js';

type CommandOf<K extends DataPlaneCommand['kind']> = Extract<DataPlaneCommand, { readonly kind: K }>;

/** What a job needs of the thread around it. */
export interface Surroundings {
  want(peer: Peer, pulls: readonly Pull[]): void;
  /** Forgets every pull of the owner, or only those from one peer. */
  cancel(owner: PullOwner, peer?: Peer): void;
  /** Closes the streams to workers (or addresses, or incarnations) that are in no roster any more. */
  closeUnusedStreams(): void;
  /** Requests that wait for the event of the job, or for any of them, are looked at again. */
  wake(job: string, event?: string): void;
  emit(event: DataPlaneEvent): void;
  log(level: 'info' | 'warn', line: string): void;
}

export class JobExchange implements Serving {
  readonly memory: ExchangeMemory;
  readonly shelf: Shelf;
  readonly #job: string;
  readonly #bf16Bytes: number;
  readonly #chunks = new MemoryPool(CHUNK_BYTES);
  /** For the sums that are added up for workers on other hosts; of one generation. */
  #carried = new MemoryPool(0);
  readonly #epoch: Epoch;
  readonly #place: Pick<MemoryPlace, 'fd' | 'inode' | 'epochFd' | 'epochInode'>;
  /** By worker name: those on this host whose memory has been read. */
  readonly #peerMemories = new Map<string, PeerMemory>();
  readonly #runs = new Set<Run>();
  readonly #reported = new Set<string>();

  constructor(
    { job, exchangeFd, vectorBytes, bf16Bytes, microbatches }: CommandOf<'open_job'>,
    private readonly around: Surroundings,
  ) {
    this.#job = job;
    this.#bf16Bytes = bf16Bytes;
    this.memory = new ExchangeMemory(exchangeFd, vectorBytes);
    this.shelf = new Shelf(vectorBytes, microbatches);
    this.#epoch = new Epoch('lockstep-epoch');
    const { fd: epochFd } = this.#epoch;
    this.#place = { fd: exchangeFd, inode: inodeOf(exchangeFd), epochFd, epochInode: inodeOf(epochFd) };
  }

  bytes(slot: number, at: number, length: number): Uint8Array {
    return this.memory.bytes(slot, at, length);
  }

  placeOf(slot: number, at: number, length: number): MemoryPlace {
    return { ...this.#place, epoch: this.#epoch.value, slot, at, length };
  }

  startGeneration({ term, generation, rank, roster }: CommandOf<'start_generation'>): void {
    this.#stopRuns();
    this.#reported.clear();
    for (const worker of this.#peerMemories.keys()) {
      if (!roster.some((peer) => peer.worker === worker)) this.#closePeerMemory(worker);
    }
    this.#carried = new MemoryPool(longestSegment(roster.length));
    this.shelf.start({ term, generation, rank, roster });
    this.around.closeUnusedStreams();
    this.around.wake(this.#job);
  }

  stopGeneration(): void {
    this.#stopRuns();
    this.shelf.stop();
    this.around.wake(this.#job);
  }

  #stopRuns(): void {
    this.#epoch.advance();
    for (const run of this.#runs) run.stop();
    this.#runs.clear();
  }

  publishBuckets({ step, node, slot, buckets }: CommandOf<'publish_buckets'>): void {
    this.#publish(step, node, { slot, buckets, facts: undefined });
  }

  publishPartial({ step, node, slot, facts }: CommandOf<'publish_partial'>): void {
    this.#publish(step, node, { slot, buckets: Number.POSITIVE_INFINITY, facts });
  }

  #publish(step: number, node: TreeNode, partial: PublishedPartial): void {
    this.shelf.publish(step, node, partial);
    this.around.wake(this.#job, shelfEvent.partial(step, node));
    for (const run of this.#runs) {
      if (run instanceof AllReduce && run.step === step) run.published(node, partial);
    }
  }

  dropPartials({ step }: CommandOf<'drop_partials'>): void {
    for (const memory of this.shelf.dropPartials(step)) this.#carried.giveBack(memory);
  }

  reduce({ step, placements }: CommandOf<'reduce'>): void {
    const generation = this.#current();
    this.shelf.beginReduction(step);
    const run = new AllReduce({
      context: this.#context(generation),
      step,
      placements,
      segmentHeld: (bucket, segment) => {
        this.shelf.holdSegment(step, bucket, segment);
        this.around.wake(this.#job, shelfEvent.segment(step, bucket, segment));
      },
      sumHeld: ({ node, segment }, bucket, memory) => {
        this.shelf.holdSum(step, node, bucket, segment, memory);
        this.around.wake(this.#job, shelfEvent.sum(step, node, bucket, segment));
      },
      done: (result) => this.#committed(run, generation, result),
    });
    this.#runs.add(run);
    run.start();
    for (const { node, rank } of placements) {
      const partial = rank === generation.rank ? this.shelf.partial(step, node) : undefined;
      if (partial !== undefined) run.published(node, partial);
    }
  }

  fetchReduced({ step, ranks }: CommandOf<'fetch_reduced'>): void {
    const generation = this.#current();
    this.shelf.beginReduction(step);
    const run = new FetchReduced({
      context: this.#context(generation),
      step,
      ranks,
      done: (result) => {
        this.#committed(run, generation, result);
        // Its segments have come all at once.
        this.around.wake(this.#job);
      },
    });
    this.#runs.add(run);
    run.start();
  }

  #committed(run: Run, { generation }: Generation, result: ReducedResult): void {
    this.#runs.delete(run);
    this.shelf.commit(result.step, result.facts);
    this.around.emit({ kind: 'reduced', job: this.#job, generation, ...result });
  }

  publishState({ committed, fd, bytes, sha256, ranges }: CommandOf<'publish_state'>): void {
    const whole = { at: 0, length: bytes };
    this.shelf.publishState({ committed, fd, bytes, sha256, ranges: ranges ?? [whole] });
    this.around.wake(this.#job, shelfEvent.state);
  }

  fetchState({ committed, ranks, fd, expected, missing }: CommandOf<'fetch_state'>): void {
    const generation = this.#current();
    const name = { job: this.#job, generation: generation.generation, committed };
    const ended = (event: DataPlaneEvent): void => {
      this.#runs.delete(run);
      this.around.emit(event);
    };
    const run = new FetchState({
      context: this.#context(generation),
      committed,
      ranks,
      fd,
      expected,
      missing,
      done: (bytes) => ended({ kind: 'state_fetched', ...name, bytes }),
      corrupt: () => ended({ kind: 'state_corrupt', ...name }),
    });
    this.#runs.add(run);
    run.start();
  }

  close(): void {
    this.stopGeneration();
    for (const worker of this.#peerMemories.keys()) this.#closePeerMemory(worker);
    this.#epoch.close();
    this.memory.close();
  }

  #closePeerMemory(worker: string): void {
    this.#peerMemories.get(worker)?.close();
    this.#peerMemories.delete(worker);
  }

  #memoryOf({ worker }: Peer, pid: number, place: MemoryPlace): PeerMemory | undefined {
    if (place.at % 4 !== 0 || place.at + place.length > this.memory.vectorBytes) return undefined;
    const known = this.#peerMemories.get(worker);
    if (known?.isOf(place)) return known;
    this.#closePeerMemory(worker);
    try {
      const memory = new PeerMemory(pid, place, this.memory.vectorBytes);
      this.#peerMemories.set(worker, memory);
      return memory;
    } catch (error) {
      this.around.log('info', `the memory of ${worker} cannot be read here, gRPC is used instead: ${String(error)}`);
      return undefined;
    }
  }

  #current(): Generation {
    const { generation } = this.shelf;
    if (generation === undefined) throw new Error(`job ${this.#job} is in no generation`);
    return generation;
  }

  #context(generation: Generation): RunContext {
    const { around } = this;
    return {
      job: this.#job,
      vectorBytes: this.memory.vectorBytes,
      bf16Bytes: this.#bf16Bytes,
      microbatches: this.shelf.microbatches,
      memory: this.memory,
      generation,
      chunks: this.#chunks,
      carried: this.#carried,
      memoryOf: (peer, pid, place) => this.#memoryOf(peer, pid, place),
      want: (peer, pulls) => around.want(peer, pulls),
      cancel: (owner, peer) => around.cancel(owner, peer),
      peerFailed: (worker, reason) => this.#peerFailed(generation, worker, reason),
      log: (level, line) => around.log(level, line),
    };
  }

  #peerFailed({ generation }: Generation, worker: string, reason: string): void {
    if (this.#reported.has(worker)) return;
    this.#reported.add(worker);
    this.around.emit({ kind: 'peer_failed', job: this.#job, generation, worker, reason });
  }
}
