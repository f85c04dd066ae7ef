/**
 * The simulated etcd: a leader key with a lease, and the records of jobs, generations and checkpoints behind transactions that compare the
 * leader key.
 * It always keeps what it has stored; what can fail is the way to it and back, and it can be gone for a while.
 */
import type { AccountsRecord } from '../../coordinator/core/accounts.js';
import type { CheckpointsRecord, GenerationRecord, JobRecord, NodeRecord, Put } from '../../coordinator/core/state.js';
import type { SimulatedProcess } from './process.js';
import type { World } from './world.js';

const CALL_TIMEOUT_MS = 2_000;
const REFUSED_MS = 5;
const WATCH_RETRY_MS = 300;

export interface LeaderKey {
  readonly createRevision: number;
  readonly name: string;
  readonly operation: string;
  readonly lease: number;
}

export type Failure = { readonly kind: 'failed'; readonly mayHaveHappened: boolean };
export type Result<T> = { readonly kind: 'ok'; readonly value: T } | Failure;

export interface Marker {
  readonly operation: string;
  readonly revision: number;
}

interface Lease {
  readonly ttlMs: number;
  expiresMs: number;
}

interface Watcher {
  readonly process: SimulatedProcess;
  readonly seen: (leader: LeaderKey | undefined, revision: number) => void;
}

export class Etcd {
  revision = 1;
  leader: LeaderKey | undefined;
  readonly jobs = new Map<string, JobRecord>();
  readonly generations = new Map<string, GenerationRecord>();
  readonly checkpoints = new Map<string, CheckpointsRecord>();
  readonly nodes = new Map<string, NodeRecord>();
  accounts: AccountsRecord | undefined;
  readonly markers = new Map<number, Marker>();
  readonly #leases = new Map<number, Lease>();
  #leaseCounter = 0;
  down = false;
  /** Share of answers that get lost after the call was done. */
  lostReplies = 0;
  extraMs = 0;
  readonly #watchers = new Set<Watcher>();

  constructor(private readonly world: World) {}

  /** `act` runs in etcd if the request arrives; `done` runs in the process, once, within the deadline of the call. */
  call<T>(process: SimulatedProcess, act: () => T, done: (result: Result<T>) => void): void {
    const { agenda, network, random } = this.world;
    let answered = false;
    const finish = (delayMs: number, result: Result<T>) =>
      process.later(delayMs, () => {
        if (answered) return;
        answered = true;
        done(result);
      });
    finish(CALL_TIMEOUT_MS, { kind: 'failed', mayHaveHappened: true });
    agenda.after(network.delayMs(process.name, 'etcd') + random.unit() * this.extraMs, () => {
      if (!network.reachable(process.name, 'etcd')) return;
      if (this.down) {
        if (random.chance(0.5)) finish(REFUSED_MS, { kind: 'failed', mayHaveHappened: false });
        return;
      }
      const value = act();
      if (!network.reachable('etcd', process.name) || random.chance(this.lostReplies)) return;
      agenda.after(network.delayMs('etcd', process.name) + random.unit() * this.extraMs, () => {
        if (!this.down) finish(0, { kind: 'ok', value });
      });
    });
  }

  /** Calls `seen` with every change of the leader key, sooner or later; changes can be passed over. */
  watchLeader(process: SimulatedProcess, seen: (leader: LeaderKey | undefined, revision: number) => void): void {
    let newest = 0;
    const watcher: Watcher = {
      process,
      seen: (leader, revision) => {
        if (revision < newest) return;
        newest = revision;
        seen(leader, revision);
      },
    };
    this.#watchers.add(watcher);
    this.#notify(watcher);
  }

  #notify(watcher: Watcher): void {
    const { agenda, network } = this.world;
    if (!watcher.process.alive) {
      this.#watchers.delete(watcher);
      return;
    }
    agenda.after(network.delayMs('etcd', watcher.process.name), () => {
      if (this.down || !network.connected('etcd', watcher.process.name)) {
        agenda.after(WATCH_RETRY_MS, () => this.#notify(watcher));
        return;
      }
      const { leader, revision } = this;
      watcher.process.deliver(() => watcher.seen(leader, revision));
    });
  }

  #leaderChanged(): void {
    this.world.note('etcd', 'leader', this.leader?.createRevision);
    for (const watcher of this.#watchers) this.#notify(watcher);
  }

  grant(ttlMs: number): number {
    this.#leaseCounter += 1;
    this.#leases.set(this.#leaseCounter, { ttlMs, expiresMs: this.world.agenda.nowMs + ttlMs });
    this.#awaitExpiry(this.#leaseCounter, ttlMs);
    return this.#leaseCounter;
  }

  #awaitExpiry(id: number, delayMs: number): void {
    const { agenda, random } = this.world;
    agenda.after(delayMs, () => {
      const lease = this.#leases.get(id);
      if (lease === undefined) return;
      const leftMs = lease.expiresMs - agenda.nowMs;
      if (leftMs > 0 || this.down) this.#awaitExpiry(id, Math.max(leftMs, 50));
      else agenda.after(random.between(0, 500), () => this.#expire(id));
    });
  }

  #expire(id: number): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    if (lease.expiresMs > this.world.agenda.nowMs || this.down) this.#awaitExpiry(id, 50);
    else this.revoke(id);
  }

  /** False if the lease is gone. */
  keepAlive(id: number): boolean {
    const lease = this.#leases.get(id);
    if (lease === undefined) return false;
    lease.expiresMs = this.world.agenda.nowMs + lease.ttlMs;
    return true;
  }

  revoke(id: number): void {
    this.#leases.delete(id);
    if (this.leader?.lease !== id) return;
    this.leader = undefined;
    this.revision += 1;
    this.#leaderChanged();
  }

  revokeAll(): void {
    for (const id of [...this.#leases.keys()]) this.revoke(id);
  }

  /** etcd gives leases their whole time again after it was away. */
  comeBack(): void {
    this.down = false;
    for (const lease of this.#leases.values()) lease.expiresMs = this.world.agenda.nowMs + lease.ttlMs;
  }

  createLeaderKey(
    name: string,
    operation: string,
    lease: number,
  ): { readonly created: boolean; readonly leader: LeaderKey | undefined } {
    if (this.leader !== undefined) return { created: false, leader: this.leader };
    if (!this.#leases.has(lease)) return { created: false, leader: undefined };
    this.revision += 1;
    this.leader = { createRevision: this.revision, name, operation, lease };
    this.#leaderChanged();
    return { created: true, leader: this.leader };
  }

  /** One guarded transaction. */
  transact(term: number, markerRevision: number, operation: string, puts: readonly Put[]): boolean {
    if (this.leader?.createRevision !== term) return false;
    if ((this.markers.get(term)?.revision ?? 0) !== markerRevision) return false;
    this.revision += 1;
    this.markers.set(term, { operation, revision: this.revision });
    for (const put of puts) this.#put(put);
    return true;
  }

  #put(put: Put): void {
    this.world.oracle.stored(put, this);
    switch (put.kind) {
      case 'job':
        this.jobs.set(put.record.job, put.record);
        this.world.note('etcd', put.kind, put.record.progress.committed);
        break;
      case 'generation':
        this.generations.set(put.record.job, put.record);
        this.world.note('etcd', put.kind, put.record.generation);
        break;
      case 'checkpoints':
        this.checkpoints.set(put.record.job, put.record);
        this.world.note('etcd', put.kind, put.record.checkpoints.length);
        break;
      case 'node':
        this.nodes.set(put.record.worker, put.record);
        this.world.note('etcd', put.kind, put.record.cordoned.length);
        break;
      case 'accounts':
        this.accounts = put.record;
        this.world.note('etcd', put.kind, put.record.jobs.length);
        break;
    }
  }
}
