/** The jobs of a month on its machines, under a policy that is asked whenever something has changed. Speed grows with the workers. */
import type { Month, MonthJob, MonthMachine } from './month_jobs.js';

/** From being taken away to being idle. */
const WITHDRAW_S = 1;
/** From being sent away to being saved. */
const SAVE_S = 30;
/** Until engines have loaded a job, or restored it. */
const LOAD_S = 20;
/** A change of membership costs all others so much. */
const CHANGE_S = 0.3;

export interface RunningJob {
  readonly spec: MonthJob;
  readonly held: Set<string>;
  work: number;
  /** Nothing is done before. */
  readyS: number;
  firstStartS: number | undefined;
  /** When it got its workers. */
  startS: number;
  endS: number | undefined;
  backfilled: boolean;
  /** Without workers. */
  waitedS: number;
  /** It is being saved, and gives up its workers then. */
  leaving: boolean;
}

export interface MonthState {
  readonly nowS: number;
  readonly machines: readonly MonthMachine[];
  readonly open: readonly RunningJob[];
  readonly idle: ReadonlySet<string>;
  readonly coming: ReadonlySet<string>;
}

export type MonthDecision =
  | { readonly kind: 'assign'; readonly job: string; readonly worker: string; readonly backfilled: boolean }
  | { readonly kind: 'withdraw'; readonly job: string; readonly worker: string }
  | { readonly kind: 'preempt'; readonly job: string };

export interface Policy {
  decide(state: MonthState): readonly MonthDecision[];
  /** Worker-seconds that a user has had. */
  used?(user: string, workerSeconds: number, nowS: number): void;
}

export interface MonthOutcome {
  readonly jobs: readonly RunningJob[];
  /** Worker-seconds in which machines had a job, until the end of each. */
  readonly busy: number;
  readonly endS: number;
  readonly preemptions: number;
  readonly withdrawals: number;
  readonly decideMs: number;
}

export function runMonth(month: Month, policy: Policy): MonthOutcome {
  return new MonthRun(month, policy).run();
}

class MonthRun {
  #nowS = 0;
  readonly #idle: Set<string>;
  readonly #coming = new Map<string, number>();
  readonly #jobs: RunningJob[];
  #open: RunningJob[] = [];
  #arrived = 0;
  #busy = 0;
  #preemptions = 0;
  #withdrawals = 0;
  #decideMs = 0;

  constructor(
    private readonly month: Month,
    private readonly policy: Policy,
  ) {
    this.#idle = new Set(month.machines.map(({ worker }) => worker));
    this.#jobs = month.jobs.map((spec) => ({
      spec,
      held: new Set(),
      work: spec.work,
      readyS: 0,
      firstStartS: undefined,
      startS: 0,
      endS: undefined,
      backfilled: false,
      waitedS: 0,
      leaving: false,
    }));
  }

  run(): MonthOutcome {
    for (let next = this.#nextS(); Number.isFinite(next); next = this.#nextS()) {
      this.#advance(next);
      this.#settle();
      this.#decide();
    }
    const preemptions = this.#preemptions;
    const withdrawals = this.#withdrawals;
    return { jobs: this.#jobs, busy: this.#busy, endS: this.#nowS, preemptions, withdrawals, decideMs: this.#decideMs };
  }

  #nextS(): number {
    const arrival = this.#jobs[this.#arrived]?.spec.submittedS ?? Number.POSITIVE_INFINITY;
    const ends = this.#open.map((job) => (job.leaving ? job.readyS : this.#endOf(job)));
    return Math.min(arrival, ...ends, ...this.#coming.values());
  }

  #endOf({ held, readyS, work }: RunningJob): number {
    return held.size === 0 ? Number.POSITIVE_INFINITY : Math.max(this.#nowS, readyS) + work / held.size;
  }

  #advance(toS: number): void {
    for (const job of this.#open) {
      const held = job.held.size * (toS - this.#nowS);
      this.#busy += held;
      if (job.held.size === 0) job.waitedS += toS - this.#nowS;
      this.policy.used?.(job.spec.user, held, toS);
      if (!job.leaving) job.work -= job.held.size * Math.max(0, toS - Math.max(this.#nowS, job.readyS));
    }
    this.#nowS = toS;
  }

  #settle(): void {
    for (let next = this.#jobs[this.#arrived]; next !== undefined; next = this.#jobs[this.#arrived]) {
      if (next.spec.submittedS > this.#nowS) break;
      this.#open.push(next);
      this.#arrived++;
    }
    for (const [worker, atS] of this.#coming) {
      if (atS > this.#nowS) continue;
      this.#coming.delete(worker);
      this.#idle.add(worker);
    }
    for (const job of this.#open) {
      if (job.leaving && job.readyS <= this.#nowS) this.#free(job);
      // Less than a millisecond of work is what rounding has left.
      else if (job.held.size > 0 && job.readyS <= this.#nowS && job.work / job.held.size < 1e-3) {
        job.endS = this.#nowS;
        this.#free(job);
      }
    }
    this.#open = this.#open.filter(({ endS }) => endS === undefined);
  }

  #free(job: RunningJob): void {
    for (const worker of job.held) this.#idle.add(worker);
    job.held.clear();
    job.leaving = false;
    job.backfilled = false;
  }

  #decide(): void {
    const began = performance.now();
    const coming = new Set([
      ...this.#coming.keys(),
      ...this.#open.flatMap((job) => (job.leaving ? [...job.held] : [])),
    ]);
    const { machines } = this.month;
    const decisions = this.policy.decide({ nowS: this.#nowS, machines, open: this.#open, idle: this.#idle, coming });
    this.#decideMs += performance.now() - began;
    const byName = new Map(this.#open.map((job) => [job.spec.job, job]));
    for (const decision of decisions) {
      const job = byName.get(decision.job);
      if (job !== undefined) this.#carryOut(decision, job);
    }
  }

  #carryOut(decision: MonthDecision, job: RunningJob): void {
    switch (decision.kind) {
      case 'assign':
        if (!this.#idle.delete(decision.worker)) throw new Error(`${decision.worker} is not idle`);
        // Who joins loads beside the others.
        job.readyS = Math.max(job.readyS, this.#nowS + (job.held.size === 0 ? LOAD_S : CHANGE_S));
        job.firstStartS ??= this.#nowS;
        if (job.held.size === 0) job.startS = this.#nowS;
        job.backfilled = decision.backfilled;
        job.held.add(decision.worker);
        break;
      case 'withdraw':
        if (!job.held.delete(decision.worker)) throw new Error(`${decision.worker} has another job`);
        job.readyS = Math.max(job.readyS, this.#nowS + CHANGE_S);
        this.#coming.set(decision.worker, this.#nowS + WITHDRAW_S);
        this.#withdrawals++;
        break;
      case 'preempt':
        job.leaving = true;
        job.readyS = this.#nowS + SAVE_S;
        this.#preemptions++;
        break;
    }
  }
}
