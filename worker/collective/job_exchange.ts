/** One job in the data plane: its memory, what it serves, its generation and what runs in it. */

import { AllReduce } from './all_reduce.js';
import type { DataPlaneCommand, DataPlaneEvent, Peer } from './data_plane.js';
import { ExchangeMemory } from './exchange_memory.js';
import { FetchReduced } from './fetch_reduced.js';
import { FetchState } from './fetch_state.js';
import type { Pull, PullOwner } from './peer_stream.js';
import type { ReducedResult, Run, RunContext } from './run.js';
import { type Generation, Shelf, shelfEvent } from './shelf.js';

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

export class JobExchange {
  readonly memory: ExchangeMemory;
  readonly shelf: Shelf;
  readonly #job: string;
  readonly #runs = new Set<Run>();
  readonly #reported = new Set<string>();

  constructor(
    { job, exchangeFd, elements, microbatches }: CommandOf<'open_job'>,
    private readonly around: Surroundings,
  ) {
    this.#job = job;
    this.memory = new ExchangeMemory(exchangeFd, elements);
    this.shelf = new Shelf(this.memory.vectorBytes, microbatches);
  }

  bytes(slot: number, at: number, length: number): Uint8Array {
    return this.memory.bytes(slot, at, length);
  }

  startGeneration({ term, generation, rank, roster }: CommandOf<'start_generation'>): void {
    this.#stopRuns();
    this.#reported.clear();
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
    for (const run of this.#runs) run.stop();
    this.#runs.clear();
  }

  publishPartial({ step, node, slot, facts }: CommandOf<'publish_partial'>): void {
    this.shelf.publish(step, node, { slot, facts });
    this.around.wake(this.#job, shelfEvent.partial(step, node));
    for (const run of this.#runs) {
      if (run instanceof AllReduce && run.step === step) run.published(node, { slot, facts });
    }
  }

  dropPartials({ step }: CommandOf<'drop_partials'>): void {
    this.shelf.dropPartials(step);
  }

  reduce({ step, placements }: CommandOf<'reduce'>): void {
    const generation = this.#current();
    this.shelf.beginReduction(step);
    const run = new AllReduce({
      context: this.#context(generation),
      step,
      placements,
      segmentReduced: (bucket) => {
        this.shelf.segmentReduced(step, bucket);
        this.around.wake(this.#job, shelfEvent.segment(step, bucket));
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
      done: (result) => this.#committed(run, generation, result),
    });
    this.#runs.add(run);
    run.start();
  }

  #committed(run: Run, { generation }: Generation, result: ReducedResult): void {
    this.#runs.delete(run);
    this.shelf.commit(result.step, result.facts);
    this.around.wake(this.#job, shelfEvent.committed(result.step));
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
    this.memory.close();
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
      microbatches: this.shelf.microbatches,
      memory: this.memory,
      generation,
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
