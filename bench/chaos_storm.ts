/** Injects faults at random moments while a job runs. */
import { setTimeout as delay } from 'node:timers/promises';
import type { JobEvent } from '../shared/wire/jobs.js';
import type { WatchedJob } from '../test/faults/watched_job.js';
import { FAULT_NAMES, type FaultKind, type Injected, inject, type Target } from './chaos_faults.js';

export interface StormOptions extends Omit<Target, 'worker'> {
  readonly job: WatchedJob;
  readonly kinds: readonly FaultKind[];
  /** Faults an hour. */
  readonly rate: number;
  /** No more faults than these. */
  readonly kills: number;
  /** No fault after this time. */
  readonly limitMs: number;
  readonly say: (line: string) => void;
}

export interface Fault extends Injected {
  readonly kind: FaultKind;
  /** The worker that it hit; empty if it hit none. */
  readonly worker: string;
  /** Steps that had been committed. */
  readonly step: number;
}

/** When a worker is hit, another one must have the state. */
const LEAST_HOLDERS = 2;
/** Steps of a generation after which all its members have healed: none can be finished without a gradient from each. */
const COMMITS_TO_HOLD = 3;
const LOOK_AGAIN_MS = 20;

/** Exponentially distributed, as the times between faults that know nothing of each other, cut at four times the mean. */
function pauseMs(rate: number): number {
  return (3_600_000 / rate) * Math.min(4, -Math.log(1 - Math.random()));
}

function anyOf<T>(list: readonly T[]): T | undefined {
  return list[Math.floor(Math.random() * list.length)];
}

/**
 * Workers that have the state: members of a generation that has committed a few steps, and that are not lost. A joiner takes part
 * before it has healed, and when only joiners are left the state is gone.
 */
class Holders {
  #roster: readonly string[] = [];
  #commits = 0;
  #next = 0;
  #holders: readonly string[] = [];

  constructor(private readonly job: WatchedJob) {}

  /** As of what has been heard now. */
  get now(): readonly string[] {
    for (; this.#next < this.job.heard.length; this.#next++) {
      const event = this.job.heard[this.#next]?.event;
      if (event !== undefined) this.#hear(event);
    }
    return this.#holders;
  }

  #hear(event: JobEvent): void {
    if (event.kind === 'generationStarted') {
      this.#roster = event.workers;
      this.#holders = this.#holders.filter((worker) => event.workers.includes(worker));
      this.#commits = 0;
    } else if (event.kind === 'workerLost') {
      this.#roster = this.#roster.filter((worker) => worker !== event.worker);
      this.#holders = this.#holders.filter((worker) => worker !== event.worker);
    } else if (event.kind === 'stepCommitted') {
      this.#commits += 1;
      if (this.#commits === COMMITS_TO_HOLD) this.#holders = this.#roster;
    }
  }
}

/** Until the job has ended, the time is over or all faults have been injected. */
export async function storm(options: StormOptions): Promise<readonly Fault[]> {
  const { job, say } = options;
  const faults: Fault[] = [];
  const untilMs = performance.now() + options.limitMs;
  const isOver = () => job.end !== undefined || performance.now() > untilMs || faults.length >= options.kills;
  const hit = new Set<string>();
  const holders = new Holders(job);
  while (!isOver()) {
    await delay(Math.min(pauseMs(options.rate), Math.max(0, untilMs - performance.now())));
    const kind = anyOf(options.kinds);
    if (kind === undefined) break;
    const worker = await victim(holders, kind, hit, isOver);
    if (worker === undefined || isOver()) continue;
    const injected = await inject(kind, { ...options, worker });
    faults.push({ kind, worker, step: job.committed, ...injected });
    say(`fault ${faults.length} at step ${job.committed}: ${FAULT_NAMES[kind]}: ${injected.who}`);
    if (kind !== 'coordinator' && kind !== 'etcd') {
      // Until its loss is known it still seems to be one of those that go on.
      hit.add(worker);
      const seen = job.notable.length;
      const forget = () => hit.delete(worker);
      void job
        .untilNotable(seen, ({ kind: what }) => what === 'workerLost' || what === 'jobFinished')
        .then(forget, forget);
    }
  }
  await Promise.all(faults.map(({ over }) => over));
  return faults;
}

/** Waits until enough workers are there that one can be spared. */
async function victim(
  holders: Holders,
  kind: FaultKind,
  hit: ReadonlySet<string>,
  isOver: () => boolean,
): Promise<string | undefined> {
  if (kind === 'coordinator' || kind === 'etcd') return '';
  while (!isOver()) {
    const there = holders.now.filter((worker) => !hit.has(worker));
    if (there.length >= LEAST_HOLDERS) return anyOf(there);
    await delay(LOOK_AGAIN_MS);
  }
  return undefined;
}
