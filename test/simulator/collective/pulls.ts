/**
 * What is pulled from peers. A pull is looked up at its holder and handed to its puller in one event, which comes as late as the network
 * has it; or it waits at the holder until there is something to find.
 */
import type { TreeNode } from '../../../shared/tree.js';
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import type { PartialFacts, Peer } from '../../../worker/collective/data_plane.js';
import type { StateFacts } from '../../../worker/collective/facts.js';
import type { Image } from '../checkpoint/image.js';
import type { WorkerHost } from '../worker_host.js';

const GONE_RETRY_MS = 100;
const GONE_REPORT_MS = 2_000;
const RESET_GRACE_MS = 150;
const SILENCE_MS = 2_500;
const RETRY_MS = 120;
const WATCH_MS = 700;

export interface Generation {
  readonly term: number;
  readonly generation: number;
  readonly rank: number;
  readonly roster: readonly Peer[];
}

export type Wanted =
  | { readonly kind: 'partial'; readonly step: number; readonly node: TreeNode }
  /** As many of the first buckets of a partial as are said to be final. */
  | { readonly kind: 'buckets'; readonly step: number; readonly node: TreeNode }
  | { readonly kind: 'segment'; readonly step: number; readonly segment: number }
  | { readonly kind: 'vector'; readonly step: number }
  | { readonly kind: 'state_facts'; readonly committed: number }
  | { readonly kind: 'state'; readonly committed: number; readonly range: ByteRange };

export type Given =
  | {
      readonly kind: 'partial';
      readonly value: number;
      readonly facts: PartialFacts;
      readonly taint: string | undefined;
    }
  | { readonly kind: 'buckets'; readonly value: number; readonly taint: string | undefined }
  | { readonly kind: 'segment'; readonly value: number; readonly taint: string | undefined }
  | {
      readonly kind: 'vector';
      readonly gradient: number | undefined;
      readonly facts: PartialFacts;
      readonly taint: string | undefined;
    }
  | { readonly kind: 'state_facts'; readonly facts: StateFacts }
  /** What the holder's state memory had then. */
  | { readonly kind: 'state'; readonly image: Image };

export type Refusal = 'gone' | 'unknown';

export type Answer =
  | { readonly kind: 'found'; readonly given: Given }
  | { readonly kind: 'wait' }
  | { readonly kind: 'refused'; readonly status: Refusal };

export interface Pull {
  readonly run: Run;
  readonly rank: number;
  readonly wanted: Wanted;
  readonly arrived: (given: Given) => void;
  readonly refused: (status: Refusal) => void;
  /** Nobody waits for it any more. */
  readonly over: () => boolean;
}

/** Something that pulls: a reduce or a fetch. */
export abstract class Run {
  ended = false;
  /** In a reduce a peer that has left the generation is asked again: we are told to stop soon, or it comes back. */
  readonly isPatient: boolean = false;
  /** Ranks that cannot be reached, and since when; ranks that refuse, and since when. */
  readonly failingSince = new Map<number, number>();
  readonly refusedSince = new Map<number, number>();

  constructor(
    readonly job: string,
    readonly generation: Generation,
  ) {}

  /** A peer could not be reached for too long. Called again while that lasts. */
  abstract failing(rank: number, reason: string): void;
}

export class Pulls {
  constructor(private readonly host: WorkerHost) {}

  get #world() {
    return this.host.world;
  }

  begin(pull: Pull): void {
    const peer = pull.run.generation.roster[pull.rank];
    const { network } = this.#world;
    const to = peer?.worker ?? '';
    const delayMs = network.delayMs(this.host.name, to) + network.delayMs(to, this.host.name);
    this.host.later(delayMs * 0.7, () => this.#attempt(pull));
  }

  /** A pull that waits at a peer learns from here that the peer is gone. */
  watch(run: Run): void {
    this.host.later(WATCH_MS, () => {
      if (run.ended) return;
      for (const peer of run.generation.roster) {
        const holder = this.#world.workers.get(peer.worker);
        if (holder !== undefined && this.#problemWith(peer, holder) !== undefined) holder.dataPlane.release(run);
      }
      this.watch(run);
    });
  }

  #attempt(pull: Pull): void {
    const { run, rank } = pull;
    if (pull.over()) return;
    const peer = run.generation.roster[rank];
    const holder = this.#world.workers.get(peer?.worker ?? '');
    const problem = peer === undefined || holder === undefined ? 'is unknown' : this.#problemWith(peer, holder);
    if (problem !== undefined || holder === undefined) {
      this.#unreachable(run, rank, problem ?? 'is unknown');
      this.host.later(RETRY_MS, () => this.#attempt(pull));
      return;
    }
    run.failingSince.delete(rank);
    const answer = holder.dataPlane.lookUp(run.job, run.generation, this.host, pull.wanted);
    switch (answer.kind) {
      case 'found':
        run.refusedSince.delete(rank);
        pull.arrived(answer.given);
        break;
      case 'wait':
        holder.dataPlane.park(pull, this.host.dataPlane);
        break;
      case 'refused':
        this.#refused(pull, answer.status);
        break;
    }
  }

  #refused(pull: Pull, status: Refusal): void {
    const { run, rank } = pull;
    if (!run.isPatient || status === 'unknown') {
      pull.refused(status);
      return;
    }
    const since = run.refusedSince.get(rank) ?? this.#world.agenda.nowMs;
    run.refusedSince.set(rank, since);
    if (this.#world.agenda.nowMs - since > GONE_REPORT_MS) run.failing(rank, `answers ${status}`);
    this.host.later(GONE_RETRY_MS, () => this.#attempt(pull));
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
}
