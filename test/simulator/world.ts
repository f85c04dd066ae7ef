/** What everything in a simulated cluster shares: time, chance, the network, etcd, storage, the processes, and who watches over them. */
import { Agenda } from './agenda.js';
import { Storage } from './checkpoint/storage.js';
import type { CoordinatorHost } from './coordinator_host.js';
import { Etcd } from './etcd.js';
import { hashText, mix } from './hashing.js';
import type { Moment } from './moment.js';
import { Network } from './network.js';
import { Oracle } from './oracle.js';
import { Random } from './random.js';
import type { Scenario } from './scenario.js';
import type { WorkerHost } from './worker_host.js';

/** A broken invariant. */
export class Violation extends Error {
  constructor(
    readonly invariant: string,
    detail: string,
  ) {
    super(`${invariant}: ${detail}`);
  }
}

export class World {
  readonly agenda = new Agenda();
  readonly random: Random;
  readonly network: Network;
  readonly etcd: Etcd;
  readonly storage: Storage;
  readonly oracle: Oracle;
  /** The processes that run, or ran last, under each name. */
  readonly workers = new Map<string, WorkerHost>();
  readonly coordinators = new Map<string, CoordinatorHost>();
  /** What the wall clocks of processes were set forward or back by. */
  readonly wallOffsets = new Map<string, number>();
  /** Share of the pieces of a state that are spoilt on their way from peer to peer. */
  spoiltPieces: number;
  /** Faults that strike at a moment, for example when the first worker commits a step. */
  onMoment: (moment: Moment, process: string) => void = () => undefined;
  trace = 0;
  readonly #hashes = new Map<string, number>();

  constructor(
    readonly scenario: Scenario,
    readonly print: ((line: string) => void) | undefined,
  ) {
    this.random = new Random(scenario.seed, 1);
    this.spoiltPieces = scenario.spoiltPieces;
    this.network = new Network(this);
    this.etcd = new Etcd(this);
    this.storage = new Storage(this);
    this.oracle = new Oracle(this);
  }

  /** Adds what has happened to the trace. */
  note(process: string, what: string, value = 0): void {
    this.trace = mix(this.trace, this.#hashOf(process) + Math.floor(this.agenda.nowMs * 1000));
    this.trace = mix(this.trace, this.#hashOf(what) + value);
  }

  say(process: string, line: string): void {
    this.print?.(`${this.agenda.nowMs.toFixed(2).padStart(10)} ${process.padEnd(5)} ${line}`);
  }

  #hashOf(text: string): number {
    let hash = this.#hashes.get(text);
    if (hash === undefined) {
      hash = hashText(text) % 2 ** 40;
      this.#hashes.set(text, hash);
    }
    return hash;
  }
}
