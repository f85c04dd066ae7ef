/**
 * The simulated data plane of one worker, after worker/collective/data_plane.ts: what it serves (shelf.ts), what it pulls (pulls.ts and
 * the runs), and when a step is whole.
 *
 * It is a thread of its own: what the core tells it and what it tells the core are under way for a moment, in order.
 *
 * A reduced vector is committed here only once the core has said so (drop_partials of the next step); stop_generation throws an
 * unconfirmed one away, and only confirmed ones are served to workers that catch up.
 */
import type { DataPlaneEvent, PartialFacts } from '../../../worker/collective/data_plane.js';
import type { CoreDataPlaneCommand } from '../../../worker/core/command.js';
import type { Memory } from '../memory.js';
import type { WorkerHost } from '../worker_host.js';
import { AllReduce } from './all_reduce.js';
import type { Exchange } from './exchange.js';
import { FetchReduced } from './fetch_reduced.js';
import { FetchState } from './fetch_state.js';
import { type Answer, type Generation, type Pull, Pulls, type Run, type Wanted } from './pulls.js';
import { Shelf } from './shelf.js';

type CommandOf<K extends CoreDataPlaneCommand['kind']> = Extract<CoreDataPlaneCommand, { readonly kind: K }>;
type Outgoing = Exclude<DataPlaneEvent, { kind: 'listening' }>;

export class SimulatedDataPlane {
  readonly #shelves = new Map<string, Shelf>();
  readonly #pulls: Pulls;
  #commandsUntilMs = 0;
  #eventsUntilMs = 0;

  constructor(private readonly host: WorkerHost) {
    this.#pulls = new Pulls(host);
  }

  get #world() {
    return this.host.world;
  }

  /** `memory` is that of the engine that the command belongs to. */
  tell(command: CoreDataPlaneCommand, memory: Memory | undefined): void {
    const { agenda, random } = this.#world;
    const delayMs = random.chance(0.05) ? random.between(0, 6) : random.between(0.01, 0.1);
    this.#commandsUntilMs = Math.max(this.#commandsUntilMs, agenda.nowMs + delayMs);
    this.host.later(this.#commandsUntilMs - agenda.nowMs, () => this.#handle(command, memory));
  }

  #emit(event: Outgoing): void {
    const { agenda, random } = this.#world;
    const delayMs = random.chance(0.1) ? random.between(0, 12) : random.between(0.01, 0.2);
    this.#eventsUntilMs = Math.max(this.#eventsUntilMs, agenda.nowMs + delayMs);
    this.host.later(this.#eventsUntilMs - agenda.nowMs, () => this.host.dataPlaneSaid(event));
  }

  #handle(command: CoreDataPlaneCommand, memory: Memory | undefined): void {
    if (command.kind === 'open_job') {
      if (memory !== undefined) this.#open(command, memory);
      return;
    }
    const shelf = this.#shelves.get(command.job);
    if (shelf === undefined) return;
    switch (command.kind) {
      case 'close_job':
        shelf.stop();
        this.#shelves.delete(command.job);
        this.#wake(shelf);
        break;
      case 'start_generation': {
        const { term, generation, rank, roster } = command;
        shelf.start({ term, generation, rank, roster });
        this.#wake(shelf);
        break;
      }
      case 'stop_generation':
        shelf.stop();
        this.#wake(shelf);
        break;
      case 'publish_buckets':
        shelf.publishBuckets(command.step, command.node, command);
        this.#partialsCame(shelf, command.step);
        break;
      case 'publish_partial':
        this.#publishPartial(shelf, command);
        break;
      case 'drop_partials':
        shelf.dropPartials(command.step);
        this.#wake(shelf);
        break;
      case 'reduce':
        this.#reduce(shelf, command);
        break;
      case 'fetch_reduced':
        this.#begin(shelf, new FetchReduced(this.#exchange(shelf), command.step, command.ranks));
        break;
      case 'publish_state':
        this.#publishState(shelf, command);
        break;
      case 'fetch_state':
        this.#fetchState(shelf, command);
        break;
    }
  }

  #open({ job, microbatches }: CommandOf<'open_job'>, memory: Memory): void {
    if (this.#shelves.has(job)) this.host.broken('I5', `job ${job} is opened twice`);
    this.#shelves.set(job, new Shelf(this.host, job, this.host.nameOfJob(job), microbatches, memory));
  }

  #publishPartial(shelf: Shelf, { step, node, slot, facts }: CommandOf<'publish_partial'>): void {
    shelf.publishPartial(step, node, { slot, facts });
    this.#partialsCame(shelf, step);
  }

  #partialsCame(shelf: Shelf, step: number): void {
    for (const run of shelf.runs) if (run instanceof AllReduce && run.step === step) run.takeOwn();
    this.#wake(shelf);
  }

  #publishState(shelf: Shelf, { committed, bytes, sha256, ranges }: CommandOf<'publish_state'>): void {
    shelf.publishState({ committed, bytes, sha256, ranges: ranges ?? [{ at: 0, length: bytes }] });
    this.#world.onMoment('state_published', this.host.name);
    this.#wake(shelf);
  }

  #begin(shelf: Shelf, run: Run & { start(): void }): void {
    shelf.runs.add(run);
    this.#pulls.watch(run);
    run.start();
  }

  #reduce(shelf: Shelf, { step, placements }: CommandOf<'reduce'>): void {
    const run = new AllReduce(this.#exchange(shelf), step, placements);
    shelf.reducing.set(step, run);
    this.#begin(shelf, run);
  }

  #fetchState(shelf: Shelf, { job, committed, ranks, expected, missing }: CommandOf<'fetch_state'>): void {
    const { generation } = shelf.current;
    const run = new FetchState(this.#exchange(shelf), {
      committed,
      ranks,
      image: shelf.memory.state,
      expected,
      missing,
      done: (bytes) => this.#emit({ kind: 'state_fetched', job, generation, committed, bytes }),
      corrupt: () => {
        this.#world.onMoment('state_corrupt', this.host.name);
        this.#emit({ kind: 'state_corrupt', job, generation, committed });
      },
    });
    this.#begin(shelf, run);
  }

  #exchange(shelf: Shelf): Exchange {
    const generation = shelf.current;
    return {
      host: this.host,
      shelf,
      generation,
      pull: (pull) => this.#pulls.begin(pull),
      wake: () => this.#wake(shelf),
      peerFailed: (rank, reason) => this.#peerFailed(shelf, generation, rank, reason),
      whole: (run, step, facts) => this.#whole(shelf, run, step, facts),
    };
  }

  #whole(shelf: Shelf, run: Run, step: number, facts: PartialFacts): void {
    const { generation } = run.generation;
    run.ended = true;
    shelf.runs.delete(run);
    shelf.wholeVector(step, run.generation, facts);
    this.#wake(shelf);
    this.#world.say(this.host.name, `data plane: step ${step} whole in generation ${generation}`);
    this.#world.onMoment('reduced_whole', this.host.name);
    this.#emit({ kind: 'reduced', job: shelf.job, generation, step, facts, pulledBytes: 1, gatherMs: 1 });
  }

  #peerFailed(shelf: Shelf, { generation, roster }: Generation, rank: number, reason: string): void {
    const worker = roster[rank]?.worker ?? '';
    if (shelf.reported.has(worker)) return;
    shelf.reported.add(worker);
    this.#emit({ kind: 'peer_failed', job: shelf.job, generation, worker, reason });
  }

  /** A pull of `from` waits here. */
  park(pull: Pull, from: SimulatedDataPlane): void {
    const shelf = this.#shelves.get(pull.run.job);
    if (shelf === undefined) from.again(pull);
    else shelf.waiting.push({ pull, from });
  }

  /** Looks at a pull again, a moment later. */
  again(pull: Pull): void {
    if (this.#shelves.has(pull.run.job) && !pull.over()) this.#pulls.begin(pull);
  }

  /** Gives back the pulls of a run that wait here, because the way to here is broken. */
  release(run: Run): void {
    for (const shelf of this.#shelves.values()) {
      for (const { pull, from } of shelf.waiting) if (pull.run === run) from.again(pull);
      shelf.waiting = shelf.waiting.filter(({ pull }) => pull.run !== run);
    }
  }

  /** The process is gone: whoever waits here sees its connection break. */
  reset(): void {
    for (const shelf of this.#shelves.values()) for (const { pull, from } of shelf.waiting) from.again(pull);
  }

  #wake(shelf: Shelf): void {
    for (const { pull, from } of shelf.waiting.splice(0)) {
      if (pull.over()) continue;
      const answer = this.lookUp(shelf.job, pull.run.generation, from.host, pull.wanted);
      if (answer.kind === 'wait') shelf.waiting.push({ pull, from });
      else from.again(pull);
    }
  }

  lookUp(job: string, generation: Generation, from: WorkerHost, wanted: Wanted): Answer {
    // A job that is not open here yet may be soon; one that is not open any more is told apart by the coordinator.
    return this.#shelves.get(job)?.lookUp(generation, from, wanted) ?? { kind: 'refused', status: 'gone' };
  }
}
