/** The election as coordinator/io/election.ts does it, over the simulated etcd. */
import type { LeaderKey } from './etcd.js';
import type { SimulatedProcess } from './process.js';

interface Leadership {
  readonly term: number;
  readonly lease: number;
  readonly limitMs: number;
  ackedMs: number;
}

export interface ElectionOptions {
  readonly process: SimulatedProcess;
  readonly ttlMs: number;
  readonly onElected: (term: number) => void;
  readonly onDeposed: () => void;
}

export class Election {
  #leadership: Leadership | undefined;
  #holder: { readonly leader: LeaderKey | undefined; readonly revision: number } = { leader: undefined, revision: -1 };
  #campaigning = false;
  #attempts = 0;

  constructor(private readonly options: ElectionOptions) {
    const { process } = options;
    process.world.etcd.watchLeader(process, (leader, revision) => this.#observe(leader, revision));
  }

  term(): number | undefined {
    this.#stepDownIfOverdue();
    return this.#leadership?.term;
  }

  stepDown(): void {
    const leadership = this.#leadership;
    if (leadership === undefined) return;
    this.#leadership = undefined;
    this.options.onDeposed();
    this.#revoke(leadership.lease);
    const { process, ttlMs } = this.options;
    process.later(process.world.random.between(0.5, 1) * (ttlMs / 4), () => this.#tryAgain(0));
  }

  resign(): void {
    this.#campaigning = true;
    this.stepDown();
  }

  ticked(): void {
    this.#stepDownIfOverdue();
  }

  #observe(leader: LeaderKey | undefined, revision: number): void {
    if (revision < this.#holder.revision) return;
    this.#holder = { leader, revision };
    const leadership = this.#leadership;
    if (leadership !== undefined && revision >= leadership.term && leader?.createRevision !== leadership.term) {
      this.stepDown();
    } else if (leader === undefined) this.#campaign();
  }

  #campaign(): void {
    if (this.#campaigning || this.#leadership !== undefined || this.#holder.leader !== undefined) return;
    this.#campaigning = true;
    const { process } = this.options;
    process.later(process.world.random.between(0, 50), () => this.#grant());
  }

  #tryAgain(delayMs: number): void {
    this.options.process.later(delayMs, () => {
      this.#campaigning = false;
      this.#campaign();
    });
  }

  #grant(): void {
    const { process, ttlMs } = this.options;
    const { etcd } = process.world;
    const sentMs = process.nowMs;
    etcd.call(
      process,
      () => etcd.grant(ttlMs),
      (result) => {
        if (result.kind === 'failed') this.#tryAgain(300);
        else {
          this.#attempts += 1;
          this.#create(result.value, sentMs, `${process.name}-${process.nowMs}-${this.#attempts}`);
        }
      },
    );
  }

  #create(lease: number, sentMs: number, operation: string): void {
    const { process, ttlMs } = this.options;
    const { etcd } = process.world;
    const limitMs = (ttlMs * 2) / 3;
    etcd.call(
      process,
      () => ({ ...etcd.createLeaderKey(process.name, operation, lease), revision: etcd.revision }),
      (result) => {
        if (result.kind === 'failed') {
          if (result.mayHaveHappened && process.nowMs - sentMs < limitMs) this.#create(lease, sentMs, operation);
          else this.#giveUp(lease);
          return;
        }
        const { leader, revision } = result.value;
        this.#observe(leader, revision);
        if (leader?.operation === operation && process.nowMs - sentMs < limitMs) {
          this.#lead({ term: leader.createRevision, lease, limitMs, ackedMs: sentMs });
        } else this.#giveUp(lease);
      },
    );
  }

  #giveUp(lease: number): void {
    this.#revoke(lease);
    this.#tryAgain(100);
  }

  #lead(leadership: Leadership): void {
    this.#leadership = leadership;
    this.#planKeepAlive(leadership);
    this.options.onElected(leadership.term);
  }

  #planKeepAlive(leadership: Leadership): void {
    const { process } = this.options;
    const { etcd } = process.world;
    process.later(leadership.limitMs / 4, () => {
      this.#stepDownIfOverdue();
      if (this.#leadership !== leadership) return;
      this.#planKeepAlive(leadership);
      const sentMs = process.nowMs;
      etcd.call(
        process,
        () => etcd.keepAlive(leadership.lease),
        (result) => {
          if (this.#leadership !== leadership || result.kind === 'failed') return;
          if (result.value) leadership.ackedMs = Math.max(leadership.ackedMs, sentMs);
          else this.stepDown();
        },
      );
    });
  }

  #stepDownIfOverdue(): void {
    const leadership = this.#leadership;
    if (leadership === undefined) return;
    if (this.options.process.nowMs - leadership.ackedMs >= leadership.limitMs) this.stepDown();
  }

  #revoke(lease: number): void {
    const { process } = this.options;
    const { etcd } = process.world;
    etcd.call(
      process,
      () => etcd.revoke(lease),
      () => undefined,
    );
  }
}
