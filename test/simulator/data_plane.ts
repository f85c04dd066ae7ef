/**
 * The simulated data plane of one worker, after worker/collective/data_plane.ts: what it serves, what it pulls, and when a step is whole.
 *
 * It is a thread of its own: what the core tells it and what it tells the core are under way for a moment, in order. A pull is looked up
 * at its holder and handed to its puller in one event, which comes as late as the network has it.
 *
 * A reduced vector is committed here only once the core has said so (drop_partials of the next step); stop_generation throws an
 * unconfirmed one away, and only confirmed ones are served to workers that catch up.
 */
import { additionsFor, nodeKey, type TreeNode } from '../../shared/tree.js';
import type { DataPlaneEvent, PartialFacts, Peer } from '../../worker/collective/data_plane.js';
import type { CoreDataPlaneCommand } from '../../worker/core/command.js';
import { digestOf, mix } from './hashing.js';
import { gradientOf, type Memory, type VectorContent } from './memory.js';
import { add } from './reference.js';
import type { WorkerHost } from './worker_host.js';

type CommandOf<K extends CoreDataPlaneCommand['kind']> = Extract<CoreDataPlaneCommand, { readonly kind: K }>;
type Placement = CommandOf<'reduce'>['placements'][number];
type Outgoing = Exclude<DataPlaneEvent, { kind: 'listening' }>;

const GONE_RETRY_MS = 100;
const GONE_REPORT_MS = 2_000;
const RESET_GRACE_MS = 150;
const SILENCE_MS = 2_500;
const RETRY_MS = 120;
const WATCH_MS = 700;
const FETCH_REDUCED_AGAIN_MS = 200;
const FETCH_STATE_AGAIN_MS = 500;

interface Generation {
  readonly term: number;
  readonly generation: number;
  readonly rank: number;
  readonly roster: readonly Peer[];
}

type Wanted =
  | { readonly kind: 'partial'; readonly step: number; readonly node: TreeNode }
  | { readonly kind: 'segment'; readonly step: number; readonly segment: number }
  | { readonly kind: 'vector'; readonly step: number }
  | { readonly kind: 'state'; readonly committed: number };

type Given =
  | {
      readonly kind: 'partial';
      readonly value: number;
      readonly facts: PartialFacts;
      readonly taint: string | undefined;
    }
  | { readonly kind: 'segment'; readonly value: number; readonly taint: string | undefined }
  | {
      readonly kind: 'vector';
      readonly gradient: number | undefined;
      readonly facts: PartialFacts;
      readonly taint: string | undefined;
    }
  | { readonly kind: 'state'; readonly committed: number; readonly weights: number };

type Answer =
  | { readonly kind: 'found'; readonly given: Given }
  | { readonly kind: 'wait' }
  | { readonly kind: 'refused'; readonly status: 'gone' | 'unknown' };

interface Pull {
  readonly run: Run;
  /** Pulls of older rounds of the run are over. */
  readonly round: number;
  readonly rank: number;
  readonly wanted: Wanted;
  readonly arrived: (given: Given) => void;
  readonly refused: (status: 'gone' | 'unknown') => void;
}

/** Something that pulls: a reduce or a fetch. */
class Run {
  ended = false;
  round = 0;
  /** Ranks that cannot be reached, and since when; ranks that refuse, and since when. */
  readonly failingSince = new Map<number, number>();
  readonly refusedSince = new Map<number, number>();

  constructor(
    readonly generation: Generation,
    /** What happens when a peer cannot be reached for too long. */
    readonly failing: (rank: number, reason: string) => void,
  ) {}
}

class Reduce extends Run {
  readonly values: (Extract<Given, { kind: 'partial' }> | undefined)[];
  own: number | undefined;

  constructor(
    generation: Generation,
    failing: (rank: number, reason: string) => void,
    readonly step: number,
    readonly placements: readonly Placement[],
    readonly content: VectorContent,
  ) {
    super(generation, failing);
    this.values = placements.map(() => undefined);
  }
}

interface CommittedVector {
  readonly step: number;
  readonly generation: number;
  readonly facts: PartialFacts;
  confirmed: boolean;
}

interface Shelf {
  readonly job: string;
  readonly name: string;
  readonly microbatches: number;
  readonly memory: Memory;
  generation: Generation | undefined;
  highest: { readonly generation: number; readonly term: number };
  readonly partials: Map<number, Map<string, { readonly slot: number; readonly facts: PartialFacts }>>;
  partialsFrom: number;
  readonly vectors: [CommittedVector | undefined, CommittedVector | undefined];
  /** The steps that are being reduced, with the own segment once it is there. */
  readonly reducing: Map<number, Reduce>;
  state: { readonly committed: number; readonly sha256: string } | undefined;
  readonly runs: Set<Run>;
  /** Pulls of others that wait for something to happen here. */
  waiting: { readonly pull: Pull; readonly from: SimulatedDataPlane }[];
  readonly reported: Set<string>;
}

export class SimulatedDataPlane {
  readonly #shelves = new Map<string, Shelf>();
  #commandsUntilMs = 0;
  #eventsUntilMs = 0;

  constructor(private readonly host: WorkerHost) {}

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
        this.#stop(shelf);
        this.#shelves.delete(command.job);
        this.#wake(shelf);
        break;
      case 'start_generation':
        this.#startGeneration(shelf, command);
        break;
      case 'stop_generation':
        this.#stop(shelf);
        this.#wake(shelf);
        break;
      case 'publish_partial':
        this.#publish(shelf, command);
        break;
      case 'drop_partials':
        this.#dropPartials(shelf, command.step);
        break;
      case 'reduce':
        this.#reduce(shelf, command);
        break;
      case 'fetch_reduced':
        this.#fetchReduced(shelf, command);
        break;
      case 'publish_state':
        shelf.state = { committed: command.committed, sha256: command.sha256 };
        this.#world.onMoment('state_published', this.host.name);
        this.#wake(shelf);
        break;
      case 'fetch_state':
        this.#fetchState(shelf, command);
        break;
    }
  }

  #open({ job, microbatches }: CommandOf<'open_job'>, memory: Memory): void {
    if (this.#shelves.has(job)) this.host.broken('I5', `job ${job} is opened twice`);
    this.#shelves.set(job, {
      job,
      name: this.host.nameOfJob(job),
      microbatches,
      memory,
      generation: undefined,
      highest: { generation: 0, term: 0 },
      partials: new Map(),
      partialsFrom: 0,
      vectors: [undefined, undefined],
      reducing: new Map(),
      state: undefined,
      runs: new Set(),
      waiting: [],
      reported: new Set(),
    });
  }

  #startGeneration(shelf: Shelf, { term, generation, rank, roster }: CommandOf<'start_generation'>): void {
    this.#stop(shelf);
    shelf.reported.clear();
    shelf.generation = { term, generation, rank, roster };
    shelf.highest = { term, generation };
    this.#wake(shelf);
  }

  #stop(shelf: Shelf): void {
    for (const run of shelf.runs) run.ended = true;
    shelf.runs.clear();
    shelf.generation = undefined;
    shelf.reducing.clear();
    shelf.vectors.forEach((vector, slot) => {
      if (vector?.confirmed === false) shelf.vectors[slot] = undefined;
    });
  }

  #publish(shelf: Shelf, { step, node, slot, facts }: CommandOf<'publish_partial'>): void {
    const ofStep =
      shelf.partials.get(step) ?? new Map<string, { readonly slot: number; readonly facts: PartialFacts }>();
    shelf.partials.set(step, ofStep.set(nodeKey(node), { slot, facts }));
    for (const run of shelf.runs) if (run instanceof Reduce && run.step === step) this.#takeOwn(shelf, run);
    this.#wake(shelf);
  }

  #dropPartials(shelf: Shelf, below: number): void {
    shelf.partialsFrom = Math.max(shelf.partialsFrom, below);
    for (const step of shelf.partials.keys()) if (step < below) shelf.partials.delete(step);
    const confirmed = shelf.vectors[(below + 1) % 2];
    if (confirmed?.step === below - 1) confirmed.confirmed = true;
    this.#wake(shelf);
  }

  #current(shelf: Shelf): Generation {
    if (shelf.generation === undefined) return this.host.broken('I5', `job ${shelf.job} is in no generation`);
    return shelf.generation;
  }

  #begin(shelf: Shelf, run: Run): void {
    shelf.runs.add(run);
    this.#watch(shelf, run);
  }

  #emptyVector(shelf: Shelf, generation: Generation, step: number, segments: number): VectorContent {
    shelf.vectors[step % 2] = undefined;
    const content: VectorContent = {
      kind: 'vector',
      step,
      generation: generation.generation,
      segments: Array.from({ length: segments }, () => undefined),
      taint: undefined,
    };
    shelf.memory.slots.set(step % 2, content);
    return content;
  }

  #reduce(shelf: Shelf, { step, placements }: CommandOf<'reduce'>): void {
    const generation = this.#current(shelf);
    this.#checkCover(shelf, placements);
    const content = this.#emptyVector(shelf, generation, step, generation.roster.length);
    const failing = (rank: number, reason: string) => this.#peerFailed(shelf, generation, rank, reason);
    const run = new Reduce(generation, failing, step, placements, content);
    shelf.reducing.set(step, run);
    this.#begin(shelf, run);
    placements.forEach(({ node, rank }, input) => {
      if (rank === generation.rank) return;
      this.#pull(shelf, {
        run,
        rank,
        wanted: { kind: 'partial', step, node },
        arrived: (given) => {
          if (given.kind === 'partial') run.values[input] = given;
          this.#fold(shelf, run);
        },
        refused: () =>
          this.host.broken(
            'I3',
            `worker ${generation.roster[rank]?.worker} never has ${nodeKey(node)} of step ${step}`,
          ),
      });
    });
    generation.roster.forEach((_, segment) => {
      if (segment === generation.rank) return;
      this.#pull(shelf, {
        run,
        rank: segment,
        wanted: { kind: 'segment', step, segment },
        arrived: (given) => {
          if (given.kind !== 'segment') return;
          content.segments[segment] = given.value;
          content.taint ??= given.taint;
          this.#finishIfWhole(shelf, run);
        },
        refused: () =>
          this.host.broken('I1', `worker ${generation.roster[segment]?.worker} has no segment of step ${step}`),
      });
    });
    this.#takeOwn(shelf, run);
  }

  #checkCover(shelf: Shelf, placements: readonly Placement[]): void {
    const leaves = placements.flatMap(({ node }) => Array.from({ length: node.length }, (_, i) => node.lo + i));
    const once = new Set(leaves);
    if (leaves.length !== shelf.microbatches || once.size !== leaves.length) {
      this.host.broken(
        'I3',
        `placements ${placements.map(({ node }) => nodeKey(node)).join(' ')} of ${shelf.microbatches}`,
      );
    }
  }

  /** The own partials that are published by now. */
  #takeOwn(shelf: Shelf, run: Reduce): void {
    run.placements.forEach(({ node, rank }, input) => {
      if (rank !== run.generation.rank || run.values[input] !== undefined) return;
      const given = this.#partialHere(shelf, run.generation.generation, run.step, node);
      if (given !== undefined) run.values[input] = given;
    });
    this.#fold(shelf, run);
  }

  #partialHere(
    shelf: Shelf,
    generation: number,
    step: number,
    node: TreeNode,
  ): Extract<Given, { kind: 'partial' }> | undefined {
    const published = shelf.partials.get(step)?.get(nodeKey(node));
    if (published === undefined) return undefined;
    const content = shelf.memory.slots.get(published.slot);
    const right =
      content?.kind === 'partial' &&
      content.job === shelf.name &&
      content.step === step &&
      nodeKey(content.node) === nodeKey(node);
    const found = content?.kind === 'partial' ? `${nodeKey(content.node)} of step ${content.step}` : content?.kind;
    const name = `${nodeKey(node)} of step ${step} on ${this.host.name}`;
    const isCurrent = right && content.weights === this.#world.oracle.weightsOf(shelf.job, generation, step);
    return {
      kind: 'partial',
      value: right ? content.value : mix(step, 13),
      facts: published.facts,
      taint: isCurrent
        ? undefined
        : right
          ? `${name} was computed from other weights`
          : `the slot of ${name} holds ${found}`,
    };
  }

  /** Adds up the own segment once every partial is there. */
  #fold(shelf: Shelf, run: Reduce): void {
    const { content } = run;
    if (run.ended || run.own !== undefined || run.values.some((value) => value === undefined)) return;
    const sums = new Map<string, number>();
    run.placements.forEach(({ node }, input) => {
      sums.set(nodeKey(node), run.values[input]?.value ?? 0);
      content.taint ??= run.values[input]?.taint;
    });
    const nodes = run.placements.map(({ node }) => node);
    for (const { left, right, into } of additionsFor(nodes, shelf.microbatches)) {
      sums.set(nodeKey(into), add(sums.get(nodeKey(left)) ?? 0, sums.get(nodeKey(right)) ?? 0));
    }
    run.own = sums.get(nodeKey({ lo: 0, length: shelf.microbatches })) ?? 0;
    content.segments[run.generation.rank] = run.own;
    this.#wake(shelf);
    this.#finishIfWhole(shelf, run);
  }

  #finishIfWhole(shelf: Shelf, run: Reduce): void {
    if (run.ended || run.content.segments.some((segment) => segment === undefined)) return;
    if (run.values.some((value) => value === undefined)) return;
    const facts = run.placements.map(({ node }, input) => ({ node, facts: run.values[input]?.facts }));
    facts.sort((left, right) => left.node.lo - right.node.lo);
    this.#whole(shelf, run, run.step, {
      loss: facts.reduce((sum, one) => sum + (one.facts?.loss ?? 0), 0),
      weight: facts.reduce((sum, one) => sum + (one.facts?.weight ?? 0), 0),
      consumed: facts.flatMap((one) => one.facts?.consumed ?? []),
    });
  }

  #whole(shelf: Shelf, run: Run, step: number, facts: PartialFacts): void {
    run.ended = true;
    shelf.runs.delete(run);
    shelf.reducing.delete(step);
    shelf.vectors[step % 2] = { step, generation: run.generation.generation, facts, confirmed: false };
    this.#wake(shelf);
    const gradient = gradientOf(shelf.memory.slots.get(step % 2)) ?? 0;
    this.#world.say(this.host.name, `data plane: step ${step} whole in generation ${run.generation.generation}`);
    this.#world.onMoment('reduced_whole', this.host.name);
    this.#emit({
      kind: 'reduced',
      job: shelf.job,
      generation: run.generation.generation,
      step,
      facts,
      crc: gradient % 2 ** 32,
      pulledBytes: 1,
    });
  }

  #fetchReduced(shelf: Shelf, { step, ranks }: CommandOf<'fetch_reduced'>): void {
    const generation = this.#current(shelf);
    let turn = 0;
    const failures = new Map<number, string>();
    if (ranks.length === 0) this.host.broken('I12', `nobody to fetch the reduced vector of step ${step} from`);
    const next = (reason: string): void => {
      const failed = ranks[turn % ranks.length] ?? 0;
      failures.set(failed, reason);
      turn += 1;
      run.failingSince.clear();
      const round = turn % ranks.length === 0;
      if (round) for (const [rank, problem] of failures) this.#peerFailed(shelf, generation, rank, problem);
      this.host.later(round ? FETCH_REDUCED_AGAIN_MS : 0, ask);
    };
    const run = new Run(generation, (_, reason) => next(reason));
    const content = this.#emptyVector(shelf, generation, step, 1);
    const ask = (): void => {
      run.round += 1;
      const asked = turn;
      this.#pull(shelf, {
        run,
        rank: ranks[turn % ranks.length] ?? 0,
        wanted: { kind: 'vector', step },
        arrived: (given) => {
          if (given.kind !== 'vector' || run.ended || asked !== turn) return;
          content.segments[0] = given.gradient;
          content.taint = given.taint ?? (given.gradient === undefined ? 'segments of different sums' : undefined);
          this.#whole(shelf, run, step, given.facts);
        },
        refused: (status) => {
          if (asked === turn) next(`answers ${status}`);
        },
      });
    };
    this.#begin(shelf, run);
    ask();
  }

  #fetchState(shelf: Shelf, { committed, ranks }: CommandOf<'fetch_state'>): void {
    const generation = this.#current(shelf);
    const failures = new Map<number, string>();
    if (ranks.length === 0) this.host.broken('I12', `nobody to fetch the state after ${committed} steps from`);
    const failed = (rank: number, reason: string): void => {
      failures.set(rank, reason);
      if (failures.size < new Set(ranks).size || run.ended) return;
      for (const [one, problem] of failures) this.#peerFailed(shelf, generation, one, problem);
      failures.clear();
      run.failingSince.clear();
      this.host.later(FETCH_STATE_AGAIN_MS, ask);
    };
    const run = new Run(generation, failed);
    const ask = (): void => {
      run.round += 1;
      for (const rank of new Set(ranks)) {
        this.#pull(shelf, {
          run,
          rank,
          wanted: { kind: 'state', committed },
          arrived: (given) => {
            if (given.kind !== 'state' || run.ended) return;
            run.ended = true;
            shelf.runs.delete(run);
            shelf.memory.state = { committed: given.committed, weights: given.weights };
            this.#emit({
              kind: 'state_fetched',
              job: shelf.job,
              generation: generation.generation,
              committed,
              bytes: 1,
            });
          },
          refused: (status) => failed(rank, `answers ${status}`),
        });
      }
    };
    this.#begin(shelf, run);
    ask();
  }

  #peerFailed(shelf: Shelf, { generation, roster }: Generation, rank: number, reason: string): void {
    const worker = roster[rank]?.worker ?? '';
    if (shelf.reported.has(worker)) return;
    shelf.reported.add(worker);
    this.#emit({ kind: 'peer_failed', job: shelf.job, generation, worker, reason });
  }

  #pull(shelf: Shelf, wish: Omit<Pull, 'round'>): void {
    const pull: Pull = { ...wish, round: wish.run.round };
    const peer = pull.run.generation.roster[pull.rank];
    const { network } = this.#world;
    const to = peer?.worker ?? '';
    const delayMs = network.delayMs(this.host.name, to) + network.delayMs(to, this.host.name);
    this.host.later(delayMs * 0.7, () => this.#attempt(shelf, pull));
  }

  #attempt(shelf: Shelf, pull: Pull): void {
    const { run, rank } = pull;
    if (run.ended || pull.round !== run.round) return;
    const peer = run.generation.roster[rank];
    const holder = this.#world.workers.get(peer?.worker ?? '');
    const problem = peer === undefined || holder === undefined ? 'is unknown' : this.#problemWith(peer, holder);
    if (problem !== undefined || holder === undefined) {
      this.#unreachable(run, rank, problem ?? 'is unknown');
      this.host.later(RETRY_MS, () => this.#attempt(shelf, pull));
      return;
    }
    run.failingSince.delete(rank);
    const answer = holder.dataPlane.lookUp(shelf.job, run.generation, this.host, pull.wanted);
    switch (answer.kind) {
      case 'found':
        run.refusedSince.delete(rank);
        pull.arrived(answer.given);
        break;
      case 'wait':
        holder.dataPlane.park(shelf.job, pull, this);
        break;
      case 'refused':
        this.#refused(shelf, pull, answer.status);
        break;
    }
  }

  /** In a reduce a peer that has left the generation is asked again: we are told to stop soon, or it comes back. */
  #refused(shelf: Shelf, pull: Pull, status: 'gone' | 'unknown'): void {
    const { run, rank } = pull;
    if (!(run instanceof Reduce) || status === 'unknown') {
      pull.refused(status);
      return;
    }
    const since = run.refusedSince.get(rank) ?? this.#world.agenda.nowMs;
    run.refusedSince.set(rank, since);
    if (this.#world.agenda.nowMs - since > GONE_REPORT_MS) run.failing(rank, `answers ${status}`);
    this.host.later(GONE_RETRY_MS, () => this.#attempt(shelf, pull));
  }

  #problemWith(peer: Peer, holder: WorkerHost): string | undefined {
    if (holder.vanished || holder.frozen || !this.#world.network.connected(this.host.name, peer.worker))
      return 'is silent';
    if (!holder.alive) return 'refuses connections';
    return holder.incarnation === peer.incarnation ? undefined : 'is another incarnation';
  }

  #unreachable(run: Run, rank: number, problem: string): void {
    const { nowMs } = this.#world.agenda;
    const since = run.failingSince.get(rank) ?? nowMs;
    run.failingSince.set(rank, since);
    const limitMs = problem === 'is silent' ? SILENCE_MS : problem === 'refuses connections' ? RESET_GRACE_MS : 0;
    if (nowMs - since >= limitMs) run.failing(rank, problem);
  }

  /** A pull that waits at a peer learns from here that the peer is gone. */
  #watch(shelf: Shelf, run: Run): void {
    this.host.later(WATCH_MS, () => {
      if (run.ended) return;
      for (const peer of run.generation.roster) {
        const holder = this.#world.workers.get(peer.worker);
        if (holder !== undefined && this.#problemWith(peer, holder) !== undefined) holder.dataPlane.release(run);
      }
      this.#watch(shelf, run);
    });
  }

  park(job: string, pull: Pull, from: SimulatedDataPlane): void {
    const shelf = this.#shelves.get(job);
    if (shelf === undefined) from.again(pull, job);
    else shelf.waiting.push({ pull, from });
  }

  /** Looks at a pull again, a moment later. */
  again(pull: Pull, job: string): void {
    const shelf = this.#shelves.get(job);
    if (shelf !== undefined && !pull.run.ended) this.#pull(shelf, pull);
  }

  /** Gives back the pulls of a run that wait here, because the way to here is broken. */
  release(run: Run): void {
    for (const shelf of this.#shelves.values()) {
      for (const { pull, from } of shelf.waiting) if (pull.run === run) from.again(pull, shelf.job);
      shelf.waiting = shelf.waiting.filter(({ pull }) => pull.run !== run);
    }
  }

  /** The process is gone: whoever waits here sees its connection break. */
  reset(): void {
    for (const shelf of this.#shelves.values()) for (const { pull, from } of shelf.waiting) from.again(pull, shelf.job);
  }

  #wake(shelf: Shelf): void {
    for (const { pull, from } of shelf.waiting.splice(0)) {
      if (pull.run.ended) continue;
      const answer = this.lookUp(shelf.job, pull.run.generation, from.host, pull.wanted);
      if (answer.kind === 'wait') shelf.waiting.push({ pull, from });
      else from.again(pull, shelf.job);
    }
  }

  lookUp(job: string, generation: Generation, from: WorkerHost, wanted: Wanted): Answer {
    const shelf = this.#shelves.get(job);
    // A job that is not open here yet may be soon; one that is not open any more is told apart by the coordinator.
    if (shelf === undefined) return { kind: 'refused', status: 'gone' };
    const current = shelf.generation;
    if (current?.generation !== generation.generation || current.term !== generation.term) {
      const newer =
        generation.generation > shelf.highest.generation ||
        (generation.generation === shelf.highest.generation && generation.term > shelf.highest.term);
      return newer ? { kind: 'wait' } : { kind: 'refused', status: 'gone' };
    }
    if (!current.roster.some((peer) => peer.worker === from.name && peer.incarnation === from.incarnation)) {
      return { kind: 'refused', status: 'gone' };
    }
    return this.#find(shelf, current, wanted);
  }

  #find(shelf: Shelf, current: Generation, wanted: Wanted): Answer {
    switch (wanted.kind) {
      case 'partial': {
        if (wanted.step < shelf.partialsFrom) return { kind: 'refused', status: 'unknown' };
        const given = this.#partialHere(shelf, current.generation, wanted.step, wanted.node);
        return given === undefined ? { kind: 'wait' } : { kind: 'found', given };
      }
      case 'segment':
        return this.#findSegment(shelf, current, wanted.step);
      case 'vector': {
        const vector = shelf.vectors[wanted.step % 2];
        if (vector?.step !== wanted.step || !vector.confirmed) return { kind: 'refused', status: 'unknown' };
        const content = shelf.memory.slots.get(wanted.step % 2);
        const taint = content?.kind === 'vector' ? content.taint : 'there is no vector in the slot';
        return { kind: 'found', given: { kind: 'vector', gradient: gradientOf(content), facts: vector.facts, taint } };
      }
      case 'state':
        return this.#findState(shelf, wanted.committed);
    }
  }

  /** Only what was reduced in this generation is given to peers that reduce in it. */
  #findSegment(shelf: Shelf, current: Generation, step: number): Answer {
    const vector = shelf.vectors[step % 2];
    const whole = vector?.step === step && vector.generation === current.generation;
    const own = shelf.reducing.get(step)?.own;
    if (!whole && own === undefined) {
      const newest = Math.max(...[...shelf.reducing.keys()], vector?.step ?? -1);
      return step + 2 <= newest ? { kind: 'refused', status: 'unknown' } : { kind: 'wait' };
    }
    const content = shelf.memory.slots.get(step % 2);
    if (content?.kind !== 'vector' || content.step !== step) {
      return {
        kind: 'found',
        given: { kind: 'segment', value: mix(step, 17), taint: `the slot of step ${step} was overwritten` },
      };
    }
    const value = content.segments[current.rank] ?? mix(step, 19);
    return { kind: 'found', given: { kind: 'segment', value, taint: content.taint } };
  }

  #findState(shelf: Shelf, committed: number): Answer {
    const { state, memory } = shelf;
    if (state === undefined || state.committed < committed) return { kind: 'wait' };
    if (state.committed > committed) return { kind: 'refused', status: 'unknown' };
    const content = memory.state;
    // The receiver hashes what it gets: bytes that changed since they were published are refused.
    if (content === undefined || digestOf(mix(content.weights, 1)) !== state.sha256)
      return { kind: 'refused', status: 'unknown' };
    return { kind: 'found', given: { kind: 'state', ...content } };
  }
}
