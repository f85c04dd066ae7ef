/** The processes with the simulated workers, as one: who is in which, and what they have said. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Leader } from '../../shared/etcd/leader_watch.js';
import { monotonicMs, type News, news, type Order } from './messages.js';
import { Pace } from './pace.js';

const WORKERS_A_PROCESS = 125;
const LOOK_MS = 2;

type Of<K extends News['kind']> = Extract<News, { kind: K }>;

/** A generation of a job as its members in all processes have heard of it. */
export interface Generation {
  readonly generation: number;
  members: number;
  prepared: number;
  preparedMs: number;
  started: number;
  /** When the last of them was told to start. */
  startedMs: number;
}

export interface Counts {
  readonly sent: number;
  readonly received: number;
  readonly cpuMs: number;
}

function tell(child: ChildProcess, order: Order): void {
  // At the end some are gone while others still make steps.
  if (child.connected) child.send(order);
}

export class Fleets {
  readonly #processes: readonly ChildProcess[];
  readonly #pace: Pace;
  readonly #leader: Leader;
  readonly #workersAJob: number;
  /** The newest generations of each job. */
  readonly #generations = new Map<string, Map<number, Generation>>();
  readonly #counted: Of<'counted'>[] = [];
  readonly #vanished: Of<'vanished'>[] = [];
  readonly #loaded: Of<'loaded'>[] = [];

  constructor(options: { workers: number; repository: string; leader: Leader; stepMs: number; workersAJob: number }) {
    this.#leader = options.leader;
    this.#workersAJob = options.workersAJob;
    const count = Math.ceil(options.workers / WORKERS_A_PROCESS);
    const path = join(options.repository, 'dist/bench/control/fleet.js');
    this.#processes = Array.from({ length: count }, () => {
      const child = fork(path, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
      child.on('message', (message) => this.#heard(news.parse(message)));
      return child;
    });
    this.#pace = new Pace(options.stepMs, (job, generation, step) => {
      for (const child of this.#processes) tell(child, { kind: 'reduced', job, generation, step });
    });
  }

  join(workers: readonly number[]): void {
    const port = Number(this.#leader.address.slice(this.#leader.address.lastIndexOf(':') + 1));
    this.#order(workers, (own) => ({
      kind: 'join',
      workers: own,
      port,
      term: this.#leader.term,
      workersAJob: this.#workersAJob,
    }));
  }

  /** Resets the connections of all of them, and tells when and of which jobs. */
  async vanish(workers: readonly number[]): Promise<readonly Of<'vanished'>[]> {
    this.#vanished.length = 0;
    this.#order(workers, (own) => ({ kind: 'vanish', workers: own }));
    await this.#until('the reset connections', () => this.#vanished.length === workers.length);
    return [...this.#vanished];
  }

  /** They join again, as new incarnations; resolves when all have loaded a job, with when that was. */
  async rejoin(workers: readonly number[]): Promise<readonly Of<'loaded'>[]> {
    this.#loaded.length = 0;
    this.join(workers);
    await this.#until('the workers that join again', () => this.#loaded.length === workers.length);
    return [...this.#loaded];
  }

  /** The newest generation of the job that anybody has heard of. */
  newest(job: string): number {
    return Math.max(0, ...(this.#generations.get(job)?.keys() ?? []));
  }

  /** The first generation of the job above `above` that has so many members and has started on all of them. */
  async started(job: string, members: number, above: number): Promise<Generation> {
    const find = () =>
      [...(this.#generations.get(job)?.values() ?? [])].find(
        (one) => one.generation > above && one.members === members && one.started === members,
      );
    await this.#until(`a generation of ${members} workers of job ${job}`, () => find() !== undefined);
    const found = find();
    if (found === undefined) throw new Error('it was there a moment ago');
    return found;
  }

  /** Of all processes together, since they began. */
  async count(): Promise<Counts> {
    this.#counted.length = 0;
    for (const child of this.#processes) tell(child, { kind: 'count' });
    await this.#until('the counts', () => this.#counted.length === this.#processes.length);
    const sum = (of: (one: Counts) => number) => this.#counted.reduce((total, one) => total + of(one), 0);
    return { sent: sum((one) => one.sent), received: sum((one) => one.received), cpuMs: sum((one) => one.cpuMs) };
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#processes.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const exited = once(child, 'exit');
        child.kill('SIGKILL');
        await exited;
      }),
    );
  }

  #order(workers: readonly number[], orderFor: (own: number[]) => Order): void {
    this.#processes.forEach((child, index) => {
      const own = workers.filter((worker) => worker % this.#processes.length === index);
      if (own.length > 0) tell(child, orderFor(own));
    });
  }

  #heard(said: News): void {
    switch (said.kind) {
      case 'vanished':
        this.#vanished.push(said);
        break;
      case 'loaded':
        this.#loaded.push(said);
        break;
      case 'counted':
        this.#counted.push(said);
        break;
      case 'reducing':
        this.#pace.reducing(said);
        break;
      case 'told':
        this.#told(said);
        break;
    }
  }

  #told({ job, generation: number, phase, members, more, atMs }: Of<'told'>): void {
    const ofJob = this.#generations.get(job) ?? new Map<number, Generation>();
    this.#generations.set(job, ofJob);
    const nothing = { members: 0, prepared: 0, preparedMs: 0, started: 0, startedMs: 0 };
    const generation = ofJob.get(number) ?? { generation: number, ...nothing };
    ofJob.set(number, generation);
    if (phase === 'prepare') {
      generation.prepared += more;
      generation.preparedMs = Math.max(generation.preparedMs, atMs);
    } else {
      generation.members = members;
      generation.started += more;
      generation.startedMs = Math.max(generation.startedMs, atMs);
    }
  }

  async #until(what: string, happened: () => boolean, withinMs = 60_000): Promise<void> {
    const untilMs = monotonicMs() + withinMs;
    while (!happened()) {
      if (monotonicMs() > untilMs) throw new Error(`${what}: not within ${withinMs} ms`);
      if (this.#processes.some((child) => child.exitCode !== null)) throw new Error(`${what}: a fleet has ended`);
      await delay(LOOK_MS);
    }
  }
}
