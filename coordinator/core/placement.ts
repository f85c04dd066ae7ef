/**
 * Who gets which workers: the whole decision, made anew from what there is. Pure, and the same for the coordinator and for the simulated
 * month of bench:schedule.
 *
 * - A job gets at least its minimum at once or nothing at all (gang placement).
 * - Jobs come in order of their priority, then of how little their users have had lately, then of their age. A job that was running and
 *   lacks workers comes first in its priority.
 * - What is more than a running job's minimum is lent: it grows into idle workers, and gives them back to whoever waits and is not below it
 *   in priority.
 * - A job that waits may send away jobs of lower priority, those that were let by it (backfill), and those that are stuck with fewer workers
 *   than they need, if that gives it its minimum. They are saved first, and wait.
 * - Everything that is decided comes with its reason.
 */

export interface PlacedWorker {
  readonly worker: string;
  /** Of two that fit, the less scarce one is taken: GPUs, then processors, are kept for those who need them. */
  readonly scarcity: number;
  /** It fails often, and is taken only when no other fits. */
  readonly quarantined: boolean;
}

export interface PlacedJob {
  readonly job: string;
  readonly user: string;
  /** Aged. */
  readonly priority: number;
  readonly submittedMs: number;
  readonly workersMin: number;
  readonly workersMax: number;
  /** Workers that it has, or that are on their way to it; those that came last are the last. */
  readonly held: readonly string[];
  /** It was running, and what it lacks it has lost. */
  readonly short: boolean;
  /** It has fewer workers than its minimum, and has had for a while: what it has does nothing there. */
  readonly stuck: boolean;
  /** It makes steps: then workers can be taken away from it, and it can be sent away. */
  readonly steady: boolean;
  /** It can be saved, so it can be sent away without losing a step. */
  readonly canBeSaved: boolean;
  /** It was let by a job that waited, and has run for a while since (see mayYield): if that one can start, it goes. */
  readonly yields: boolean;
  /** As it was told when its first workers were assigned. */
  readonly backfilled: boolean;
  /** Jobs with the same text need the same of a worker, and have the same misfits. */
  readonly requirement: string;
  /** Why a worker cannot take the job; undefined if it can. */
  misfit(worker: string): string | undefined;
}

/** Nobody waits for ever: each day of waiting counts like one of priority. */
const AGING_MS = 24 * 3600 * 1000;

export function agedPriority(priority: number, waitedMs: number): number {
  return priority + Math.floor(waitedMs / AGING_MS);
}

/** Loading and saving cost a minute or so; jobs that send each other away again and again would do nothing else. */
const SHORTEST_RUN_MS = 15 * 60 * 1000;

/** Whether a job that was let by, and has been running for so long, goes for the one that it was let by. */
export function mayYield(backfilled: boolean, ranMs: number): boolean {
  return backfilled && ranMs >= SHORTEST_RUN_MS;
}

export interface PlacementInput {
  readonly jobs: readonly PlacedJob[];
  /** Workers without a job that may take one. */
  readonly idle: readonly PlacedWorker[];
  /** Why each of the other workers without a job may take none. */
  readonly barred: readonly string[];
  /** Workers that were taken away from a job and will be idle soon. */
  readonly coming: readonly PlacedWorker[];
  /** So many idle workers are kept for those that are lost. */
  readonly spares: number;
  /** Most workers of one user at a time. */
  quotaOf(user: string): number;
  /** Worker-seconds that the user had lately. */
  usageOf(user: string): number;
}

export type Decision =
  | { readonly kind: 'assign'; readonly job: string; readonly worker: string; readonly backfilled: boolean }
  /** The worker is lent no longer. */
  | { readonly kind: 'withdraw'; readonly job: string; readonly worker: string; readonly reason: string }
  /** All workers of the job go, once it is saved. */
  | { readonly kind: 'preempt'; readonly job: string; readonly reason: string };

export interface Placement {
  readonly decisions: readonly Decision[];
  /** What each job waits for that has not got its minimum. */
  readonly waits: ReadonlyMap<string, string>;
}

/** A worker that somebody has now counts like so many seconds of one that he had before. */
const HELD_COUNTS_SECONDS = 3600;
/** So many jobs that cannot start and need different things are looked at in vain, before all others only wait behind them. */
const MOST_TRIED = 64;
/** And so many of all. */
const MOST_WAITING = 1_000;

export function placeJobs(input: PlacementInput): Placement {
  return new Placing(input).place();
}

/** A job that could not start. Another one like it cannot either while nothing has been given or taken since. */
interface Vain {
  readonly job: PlacedJob;
  readonly reason: string;
  readonly decisions: number;
  readonly there: number;
}

class Placing {
  readonly #decisions: Decision[] = [];
  readonly #waits = new Map<string, string>();
  readonly #idle: Map<string, PlacedWorker>;
  readonly #coming: Map<string, PlacedWorker>;
  /** As it is after the decisions so far. */
  readonly #held: Map<string, Set<string>>;
  readonly #heldByUser = new Map<string, number>();
  readonly #usages = new Map<string, number>();
  /** By requirement, then by worker. */
  readonly #misfits = new Map<string, Map<string, string | undefined>>();
  readonly #steady: readonly PlacedJob[];
  readonly #stuck: readonly PlacedJob[];
  readonly #everybody: ReadonlySet<string>;
  readonly #sentAway = new Set<string>();
  readonly #inVain: Vain[] = [];
  /** The first job that waits and cannot start: whoever comes after it is let by. */
  #blocked: PlacedJob | undefined;

  constructor(private readonly input: PlacementInput) {
    this.#idle = new Map(input.idle.map((worker) => [worker.worker, worker]));
    this.#coming = new Map(input.coming.map((worker) => [worker.worker, worker]));
    this.#held = new Map(input.jobs.map(({ job, held }) => [job, new Set(held)]));
    this.#steady = input.jobs.filter(({ steady }) => steady);
    this.#stuck = input.jobs.filter(({ stuck }) => stuck);
    this.#everybody = new Set([
      ...this.#idle.keys(),
      ...this.#coming.keys(),
      ...input.jobs.flatMap(({ held }) => held),
    ]);
    for (const { user, held } of input.jobs) if (held.length > 0) this.#count(user, held.length);
  }

  place(): Placement {
    for (const job of this.#running()) this.#trim(job);
    const queues = this.#queues();
    for (let next = this.#next(queues); next !== undefined; next = this.#next(queues)) {
      if (!this.#sentAway.has(next.job)) this.#serve(next);
      if (this.#inVain.length >= MOST_TRIED || this.#waits.size >= MOST_WAITING) break;
    }
    // What is left of the queues has no order.
    const behind = `waits behind ${this.#waits.size} jobs that cannot start`;
    for (const { job } of queues.flat()) this.#waits.set(job, behind);
    this.#grow();
    return { decisions: this.#decisions, waits: this.#waits };
  }

  /** A worker that was lost has come back, and another one has its place. */
  #trim(job: PlacedJob): void {
    for (const worker of job.held.slice(job.workersMax)) {
      this.#take(job, worker, `the job has its ${plural(job.workersMax, 'worker')} without it`);
    }
  }

  /** Jobs without their minimum, those of each user in order: what one user has got lately decides between users only. */
  #queues(): PlacedJob[][] {
    const waiting = this.input.jobs.filter((job) => this.#lacks(job) > 0);
    const byUser = new Map<string, PlacedJob[]>();
    for (const job of waiting) {
      const ofUser = byUser.get(job.user) ?? [];
      byUser.set(job.user, ofUser);
      ofUser.push(job);
    }
    return [...byUser.values()].map((ofUser) => ofUser.sort((left, right) => this.#compare(left, right)));
  }

  #next(queues: PlacedJob[][]): PlacedJob | undefined {
    let first: PlacedJob[] | undefined;
    for (const queue of queues) {
      const [best, job] = [first?.[0], queue[0]];
      if (job !== undefined && (best === undefined || this.#compare(job, best) < 0)) first = queue;
    }
    return first?.shift();
  }

  #count(user: string, workers: number): void {
    this.#heldByUser.set(user, (this.#heldByUser.get(user) ?? 0) + workers);
  }

  #heldBy({ job }: PlacedJob): ReadonlySet<string> {
    return this.#held.get(job) ?? new Set();
  }

  #lacks(job: PlacedJob): number {
    return Math.max(0, job.workersMin - this.#heldBy(job).size);
  }

  #share(user: string): number {
    const usage = this.#usages.get(user) ?? this.input.usageOf(user);
    this.#usages.set(user, usage);
    return usage + HELD_COUNTS_SECONDS * (this.#heldByUser.get(user) ?? 0);
  }

  /** Looked up once for all jobs that need the same. */
  #misfit(job: PlacedJob, worker: string): string | undefined {
    const known = this.#misfits.get(job.requirement) ?? new Map<string, string | undefined>();
    this.#misfits.set(job.requirement, known);
    if (!known.has(worker)) known.set(worker, job.misfit(worker));
    return known.get(worker);
  }

  /** Below 0 if the left one comes first. */
  #compare(left: PlacedJob, right: PlacedJob): number {
    return (
      right.priority - left.priority ||
      Number(right.short) - Number(left.short) ||
      this.#share(left.user) - this.#share(right.user) ||
      left.submittedMs - right.submittedMs ||
      (left.job < right.job ? -1 : 1)
    );
  }

  #serve(job: PlacedJob): void {
    const reason = this.#quotaReason(job) ?? this.#reasonOfAnother(job) ?? this.#tryToServe(job);
    if (reason === undefined) return;
    this.#waits.set(job.job, reason);
    this.#blocked ??= job;
  }

  #quotaReason(job: PlacedJob): string | undefined {
    const quota = this.input.quotaOf(job.user);
    const held = this.#heldByUser.get(job.user) ?? 0;
    const surplus = held + this.#lacks(job) - quota;
    if (surplus <= 0) return undefined;
    const room = this.#makeRoom(job, surplus);
    if (room !== undefined) return room;
    return `waits for the quota of ${job.user}: ${held} of ${quota} workers are in use, and it needs ${this.#lacks(job)} more`;
  }

  /** What was lent to jobs of the same user does not keep another one of his from starting. Undefined if that is not enough. */
  #makeRoom(job: PlacedJob, surplus: number): string | undefined {
    const lent = this.#lentTo(job);
    const own = lent.filter(({ from }) => from.user === job.user);
    const there = [...this.#fitting(this.#idle.values(), job), ...this.#fitting(this.#coming.values(), job)];
    const missing = Math.max(surplus, this.#lacks(job) - there.length);
    if (own.length < surplus || lent.length < missing) return undefined;
    const taken = [...own, ...lent.filter(({ from }) => from.user !== job.user)].slice(0, missing);
    this.#reserve(job, there.slice(0, Math.max(0, this.#lacks(job) - missing)));
    for (const { from, worker } of taken) this.#withdraw(from, worker, job);
    return `waits for ${plural(missing, 'worker')} that smaller jobs are giving up`;
  }

  /** Undefined if the job has got its minimum, or why not. */
  #tryToServe(job: PlacedJob): string | undefined {
    const lacks = this.#lacks(job);
    const idle = this.#fitting(this.#idle.values(), job);
    if (idle.length >= lacks) {
      // One that has lost a worker goes on as it was.
      const backfilled = job.short ? job.backfilled : this.#blocked !== undefined;
      for (const worker of idle.slice(0, lacks)) this.#assign(job, worker, backfilled);
      return undefined;
    }
    const coming = this.#fitting(this.#coming.values(), job);
    if (idle.length + coming.length >= lacks) {
      this.#reserve(job, [...idle, ...coming].slice(0, lacks));
      return `waits for ${plural(lacks - idle.length, 'worker')} that others are giving up`;
    }
    return this.#takeFromOthers(job, [...idle, ...coming]) ?? this.#failInVain(job, idle.length);
  }

  #there(): number {
    return this.#idle.size + this.#coming.size;
  }

  #failInVain(job: PlacedJob, idle: number): string {
    const reason = this.#lackReason(job, idle);
    this.#inVain.push({ job, reason, decisions: this.#decisions.length, there: this.#there() });
    return reason;
  }

  /** Why one that needs the same, and could have taken no less from others, has just not started. */
  #reasonOfAnother(job: PlacedJob): string | undefined {
    if (this.#heldBy(job).size > 0) return undefined;
    return this.#inVain.find(
      ({ job: other, decisions, there }) =>
        other.requirement === job.requirement &&
        other.workersMin === job.workersMin &&
        other.priority >= job.priority &&
        other.submittedMs <= job.submittedMs &&
        this.#heldBy(other).size === 0 &&
        decisions === this.#decisions.length &&
        there === this.#there(),
    )?.reason;
  }

  #assign(job: PlacedJob, { worker }: PlacedWorker, backfilled: boolean): void {
    this.#idle.delete(worker);
    this.#held.get(job.job)?.add(worker);
    this.#count(job.user, 1);
    this.#decisions.push({ kind: 'assign', job: job.job, worker, backfilled });
  }

  /** The job starts with them when the others are there: nobody who comes later may have them, nor what its user may still have. */
  #reserve(job: PlacedJob, workers: readonly PlacedWorker[]): void {
    this.#count(job.user, this.#lacks(job));
    for (const { worker } of workers) {
      this.#idle.delete(worker);
      this.#coming.delete(worker);
    }
  }

  /** What fits, the least scarce first, those that fail often last. */
  #fitting(workers: Iterable<PlacedWorker>, job: PlacedJob): readonly PlacedWorker[] {
    return [...workers]
      .filter(({ worker }) => this.#misfit(job, worker) === undefined)
      .sort(
        (left, right) =>
          Number(left.quarantined) - Number(right.quarantined) ||
          left.scarcity - right.scarcity ||
          (left.worker < right.worker ? -1 : 1),
      );
  }

  /** Shrinks others, and sends others away if that is not enough. Undefined if even that is not enough. */
  #takeFromOthers(job: PlacedJob, there: readonly PlacedWorker[]): string | undefined {
    const missing = this.#lacks(job) - there.length;
    const lent = this.#lentTo(job);
    if (lent.length >= missing) {
      this.#reserve(job, there);
      for (const { from, worker } of lent.slice(0, missing)) this.#withdraw(from, worker, job);
      return `waits for ${plural(missing, 'worker')} that smaller jobs are giving up`;
    }
    const victims = this.#victims(job, missing - lent.length);
    if (victims === undefined) return undefined;
    this.#reserve(job, there);
    const gone = new Set(victims);
    for (const { from, worker } of lent) if (!gone.has(from)) this.#withdraw(from, worker, job);
    for (const victim of victims) this.#preempt(victim, job);
    return `waits for ${victims.map((victim) => victim.job).join(', ')} to be saved`;
  }

  #running(): readonly PlacedJob[] {
    return this.#steady.filter(({ job }) => !this.#sentAway.has(job));
  }

  /** Workers that fit the job and that others have beyond their minimum: of the lowest priority first, and of those who have most. */
  #lentTo(job: PlacedJob): readonly { readonly from: PlacedJob; readonly worker: string }[] {
    const lenders = this.#running()
      .filter((other) => other.priority <= job.priority && this.#surplus(other) > 0 && other !== job)
      .sort((left, right) => left.priority - right.priority || this.#surplus(right) - this.#surplus(left));
    return lenders.flatMap((from) => {
      const fitting = [...this.#heldBy(from)].filter((worker) => this.#misfit(job, worker) === undefined).sort();
      // The newest names last, so that a job keeps its first workers.
      return fitting
        .reverse()
        .slice(0, this.#surplus(from))
        .map((worker) => ({ from, worker }));
    });
  }

  #surplus(job: PlacedJob): number {
    return Math.max(0, this.#heldBy(job).size - job.workersMin);
  }

  /** The fewest of the least important jobs whose workers, beyond what they lend, are as many as are missing. */
  #victims(job: PlacedJob, missing: number): readonly PlacedJob[] | undefined {
    const candidates = [...this.#stuckBelow(job), ...this.#running().filter((other) => goesFor(other, job))].sort(
      (left, right) =>
        Number(right.stuck) - Number(left.stuck) ||
        left.priority - right.priority ||
        Number(right.yields) - Number(left.yields) ||
        right.submittedMs - left.submittedMs,
    );
    const victims: { readonly victim: PlacedJob; readonly more: number }[] = [];
    let rest = missing;
    for (const victim of candidates) {
      const fitting = [...this.#heldBy(victim)].filter((worker) => this.#misfit(job, worker) === undefined).length;
      const more = Math.max(0, fitting - this.#surplus(victim));
      if (more === 0) continue;
      victims.push({ victim, more });
      rest -= more;
      if (rest <= 0) return withoutNeedless(victims, -rest);
    }
    return undefined;
  }

  /** Those that are stuck and go for the job. One that has got workers by now is not stuck any more. */
  #stuckBelow(job: PlacedJob): readonly PlacedJob[] {
    return this.#stuck.filter((other) => {
      if (other === job || this.#lacks(other) === 0 || this.#sentAway.has(other.job)) return false;
      // What cannot be saved is lost: not for one that has come later.
      const comesBefore = other.canBeSaved || job.submittedMs < other.submittedMs;
      return other.priority < job.priority || (other.priority === job.priority && comesBefore);
    });
  }

  #withdraw(from: PlacedJob, worker: string, forWhom: PlacedJob): void {
    this.#take(from, worker, `job ${forWhom.job} waits for it`);
  }

  #take(from: PlacedJob, worker: string, reason: string): void {
    this.#held.get(from.job)?.delete(worker);
    this.#count(from.user, -1);
    this.#decisions.push({ kind: 'withdraw', job: from.job, worker, reason });
  }

  #preempt(victim: PlacedJob, forWhom: PlacedJob): void {
    this.#sentAway.add(victim.job);
    this.#waits.delete(victim.job);
    this.#count(victim.user, -this.#heldBy(victim).size);
    this.#held.get(victim.job)?.clear();
    const reason = `sent away for job ${forWhom.job} (${reasonOf(victim, forWhom)})`;
    this.#decisions.push({ kind: 'preempt', job: victim.job, reason });
  }

  #lackReason(job: PlacedJob, idle: number): string {
    const lacks = this.#lacks(job);
    const misfits = new Map<string, number>();
    const unfit = [...this.#everybody].flatMap((worker) => this.#misfit(job, worker) ?? []);
    for (const reason of [...unfit, ...this.input.barred]) misfits.set(reason, (misfits.get(reason) ?? 0) + 1);
    const why = [...misfits].map(([reason, count]) => `${plural(count, 'worker')}: ${reason}`);
    const have = this.#heldBy(job).size;
    const held = have === 0 ? '' : `has ${have} of at least ${job.workersMin}, and `;
    return [
      `${held}waits for ${plural(lacks, 'worker')}, of which ${idle} ${idle === 1 ? 'is' : 'are'} idle`,
      ...why,
    ].join('; ');
  }

  /** What nobody needs now is lent to running jobs, one after the other to whoever has least. */
  #grow(): void {
    let spare = this.input.spares;
    const running = this.input.jobs.filter((job) => !this.#sentAway.has(job.job) && this.#mayGrow(job));
    for (const worker of [...this.#idle.values()].sort((left, right) => left.scarcity - right.scarcity)) {
      if (worker.quarantined) continue;
      if (spare > 0) {
        spare--;
        continue;
      }
      const takers = new Set(
        running.filter((job) => this.#mayGrow(job) && this.#misfit(job, worker.worker) === undefined),
      );
      if (takers.size > 0) {
        const taker = this.#least(takers);
        this.#assign(taker, worker, taker.backfilled);
      }
    }
  }

  #mayGrow(job: PlacedJob): boolean {
    const held = this.#heldBy(job).size;
    const quota = this.input.quotaOf(job.user);
    return held >= job.workersMin && held < job.workersMax && (this.#heldByUser.get(job.user) ?? 0) < quota;
  }

  #least(jobs: ReadonlySet<PlacedJob>): PlacedJob {
    const fullness = (job: PlacedJob): number => this.#heldBy(job).size / job.workersMin;
    const [first, ...others] = jobs;
    if (first === undefined) throw new Error('no job can grow');
    return others.reduce((best, job) => {
      const order = best.priority - job.priority || fullness(job) - fullness(best) || this.#compare(job, best);
      return order < 0 ? job : best;
    }, first);
  }
}

/** One that was found last may be enough without some of those before it. Of these the most important, which come last, are spared first. */
function withoutNeedless(
  victims: readonly { readonly victim: PlacedJob; readonly more: number }[],
  surplus: number,
): readonly PlacedJob[] {
  let left = surplus;
  const needed = victims.toReversed().filter(({ more }) => {
    if (more > left) return true;
    left -= more;
    return false;
  });
  return needed.reverse().map(({ victim }) => victim);
}

/** Whether a job that makes steps is sent away for another one. */
function goesFor(running: PlacedJob, job: PlacedJob): boolean {
  if (!running.canBeSaved) return false;
  const wasLetBy = running.priority === job.priority && running.yields && job.submittedMs < running.submittedMs;
  return running.priority < job.priority || wasLetBy;
}

function reasonOf(victim: PlacedJob, forWhom: PlacedJob): string {
  if (victim.stuck) return 'it lacked workers itself';
  return victim.priority < forWhom.priority ? `priority ${forWhom.priority}` : 'it had waited for longer';
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
