/**
 * One coordinator leads: the one whose campaign key is in etcd. The create revision of the key is the term.
 *
 * The guarantee against two leaders is not here but in Store: each write compares the term. What is here makes two leaders
 * rare and short: this process stops leading, without asking anybody, once two thirds of the TTL have passed since it *sent* the
 * last keepalive that was acknowledged, by its own monotonic clock. etcd gives the key away no earlier than one TTL after
 * that keepalive arrived.
 */
import { nanoid } from 'nanoid';
import { BackOff, pause } from '../../shared/etcd/back_off.js';
import type { Entry, EtcdClient, EtcdLog } from '../../shared/etcd/client.js';
import { deferred } from '../../shared/etcd/deferred.js';
import { EtcdFailure, EtcdLeaseLost, EtcdTimedOut } from '../../shared/etcd/errors.js';
import { FailureLog } from '../../shared/etcd/failure_log.js';
import { leaderKey } from '../../shared/etcd/keys.js';
import { type LeaderValue, parseLeaderValue } from '../../shared/etcd/leader_watch.js';
import { type RangeWatch, watchRange } from '../../shared/etcd/range_watch.js';

export interface ElectionOptions {
  readonly client: EtcdClient;
  readonly name: string;
  /** host:port of this coordinator's services. */
  readonly address: string;
  /** URL of its dashboard, if it has one. */
  readonly dashboard?: string | undefined;
  readonly ttlSeconds: number;
  /** Milliseconds that never go back; a parameter for tests only. */
  readonly monotonicNow?: (() => number) | undefined;
  /** This process leads from now on. Must not throw. */
  readonly onElected: (term: number) => void;
  /** This process does not lead any more. Called once for each onElected, synchronously. Must not throw. */
  readonly onDeposed: (reason: string) => void;
  readonly log: EtcdLog;
}

export interface Election {
  /**
   * The term while this process leads, else undefined. It reads the clock, so a process that was frozen learns here that its time
   * is over, even before its timers run.
   */
  term(): number | undefined;
  /** Stops leading, for example because a write was fenced, and campaigns again. Nothing happens if it does not lead. */
  stepDown(reason: string): void;
  /** Stops leading, deletes the key and campaigns no more. */
  resign(): Promise<void>;
  /** The key is free, or seems so, and nothing is done about it; or nobody looks at the key any more. Never so unless something here is broken. */
  hasStopped(nowMs: number): boolean;
}

export function startElection(options: ElectionOptions): Election {
  return new Candidate(options);
}

interface Leadership {
  readonly term: number;
  readonly lease: string;
  /** Longest time between sending a keepalive that is acknowledged and the next such. */
  readonly limitMs: number;
  /** When the newest acknowledged keepalive was sent. */
  ackedMs: number;
  readonly failures: FailureLog;
  readonly stopTimers: () => void;
  readonly ended: () => void;
}

interface Claim {
  readonly term: number;
  readonly lease: string;
  readonly grantSentMs: number;
  readonly limitMs: number;
}

/** Lets those who wait pass while it is open. */
class Gate {
  #passage = deferred();
  #isOpen = false;

  open(): void {
    this.#isOpen = true;
    this.#passage.resolve();
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#passage = deferred();
  }

  opened(): Promise<void> {
    return this.#passage.promise;
  }
}

/** Far above what an attempt and the pauses round it take. */
const ATTEMPT_MARGIN_MS = 60_000;

/** Those who stand by try within this time of each other when the key is gone. */
const campaignJitterMs = 50;

class Candidate implements Election {
  readonly #options: ElectionOptions;
  readonly #now: () => number;
  readonly #resigned = new AbortController();
  readonly #watch: RangeWatch;
  readonly #run: Promise<void>;
  #leadership: Leadership | undefined;
  /** The holder of the key as far as known, and the revision at which it was seen. Revision -1: not known. */
  #holder: { readonly entry: Entry | undefined; readonly revision: number } = { entry: undefined, revision: -1 };
  /** Open while the key is known to be free, as far as we have heard. */
  #vacant = new Gate();
  #revoking: Promise<void> = Promise.resolve();
  /** When the newest attempt to lead began, or the key was seen to be free after it was not. */
  #triedMs = performance.now();

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.#now = options.monotonicNow ?? (() => performance.now());
    this.#watch = watchRange({
      client: options.client,
      range: { kind: 'key', key: leaderKey },
      onSnapshot: ({ entries, revision }) => this.#observe(entries.get(leaderKey), revision),
      log: options.log,
      resyncMs: options.ttlSeconds * 500,
    });
    this.#run = this.#campaign();
  }

  term(): number | undefined {
    this.#stepDownIfOverdue();
    return this.#leadership?.term;
  }

  stepDown(reason: string): void {
    const leadership = this.#leadership;
    if (leadership === undefined) return;
    this.#leadership = undefined;
    leadership.stopTimers();
    this.#options.log.warn('no longer the leader', { term: leadership.term, reason });
    this.#options.onDeposed(reason);
    // So that the next leader need not wait for the TTL.
    this.#revoking = this.#revoke(leadership.lease);
    leadership.ended();
  }

  async resign(): Promise<void> {
    this.#resigned.abort();
    this.#watch.close();
    this.stepDown('resigned');
    this.#vacant.open();
    await this.#run;
    await this.#revoking;
  }

  hasStopped(nowMs: number): boolean {
    if (this.#resigned.signal.aborted) return false;
    const idle = this.#leadership === undefined && this.#vacant.isOpen;
    const limitMs = this.#options.ttlSeconds * 1000 + ATTEMPT_MARGIN_MS;
    return this.#watch.hasStopped(nowMs) || (idle && nowMs - this.#triedMs > limitMs);
  }

  async #campaign(): Promise<void> {
    const { log, ttlSeconds } = this.#options;
    const resigned = this.#resigned.signal;
    const failures = new FailureLog(log, 'campaign');
    const backOff = new BackOff({ firstMs: 100, maxMs: 1000 });
    while (!resigned.aborted) {
      try {
        await this.#vacant.opened();
        await pause(Math.random() * campaignJitterMs, resigned);
        this.#triedMs = performance.now();
        const claim = resigned.aborted ? undefined : await this.#claim();
        backOff.reset();
        failures.succeeded();
        if (claim === undefined) continue;
        await this.#lead(claim);
        // Whoever was deposed lets the others try first.
        await pause((0.5 + Math.random() / 2) * ttlSeconds * 250, resigned);
      } catch (error) {
        failures.failed(error);
        await backOff.wait(resigned);
      }
    }
  }

  /** What a watch, a listing or a transaction says of the key; older news than what is known is no news. */
  #observe(entry: Entry | undefined, revision: number): void {
    if (revision < this.#holder.revision) return;
    this.#holder = { entry, revision };
    if (entry !== undefined) this.#vacant.close();
    else if (!this.#vacant.isOpen) {
      this.#triedMs = performance.now();
      this.#vacant.open();
    }
    const leadership = this.#leadership;
    if (leadership !== undefined && revision >= leadership.term && entry?.createRevision !== leadership.term) {
      this.stepDown(entry === undefined ? 'the leader key was deleted' : 'another holds the leader key');
    }
  }

  /** One attempt to become the leader: undefined if another was first. */
  async #claim(): Promise<Claim | undefined> {
    const { client, ttlSeconds } = this.#options;
    const grantSentMs = this.#now();
    const granted = await client.grantLease(ttlSeconds);
    const limitMs = (Math.min(ttlSeconds, granted.ttlSeconds) * 1000 * 2) / 3;
    let term: number | undefined;
    try {
      term = await this.#createKey(granted.lease, grantSentMs + limitMs);
    } finally {
      if (term === undefined || this.#resigned.signal.aborted) await this.#revoke(granted.lease);
    }
    if (term === undefined || this.#resigned.signal.aborted) return undefined;
    return { term, lease: granted.lease, grantSentMs, limitMs };
  }

  /**
   * Creates the key if there is none and returns its create revision. An attempt whose answer was lost is repeated: the key, if it
   * was created, then carries our operation id.
   */
  async #createKey(lease: string, untilMs: number): Promise<number | undefined> {
    const { client, name, address, dashboard } = this.#options;
    const operation = nanoid();
    const value: LeaderValue = { name, address, dashboard, operation };
    for (;;) {
      try {
        const result = await client.transact({
          when: [{ key: leaderKey, field: 'createRevision', equals: 0 }],
          success: [{ kind: 'put', key: leaderKey, value: JSON.stringify(value), lease }],
          failure: [{ kind: 'get', key: leaderKey }],
        });
        if (result.succeeded) return result.revision;
        const holder = result.found[0];
        this.#observe(holder, result.revision);
        return holder !== undefined && parseLeaderValue(holder.value)?.operation === operation
          ? holder.createRevision
          : undefined;
      } catch (error) {
        if (!(error instanceof EtcdFailure) || !error.mayHaveHappened) throw error;
        if (this.#now() >= untilMs || this.#resigned.signal.aborted) throw error;
        await pause(50, this.#resigned.signal);
      }
    }
  }

  /** Leads until deposed. */
  async #lead({ term, lease, grantSentMs, limitMs }: Claim): Promise<void> {
    if (this.#now() - grantSentMs >= limitMs) {
      await this.#revoke(lease);
      throw new EtcdTimedOut('campaign', 'won too late to be safe');
    }
    const ended = deferred();
    const keepAlive = setInterval(() => void this.#keepAlive(term), limitMs / 4);
    const overdue = setInterval(() => this.#stepDownIfOverdue(), Math.max(5, limitMs / 50));
    this.#leadership = {
      term,
      lease,
      limitMs,
      ackedMs: grantSentMs,
      failures: new FailureLog(this.#options.log, 'keepalive of the leader', { term }),
      stopTimers: () => {
        clearInterval(keepAlive);
        clearInterval(overdue);
      },
      ended: ended.resolve,
    };
    this.#options.log.info('elected', { term, name: this.#options.name });
    this.#options.onElected(term);
    await ended.promise;
  }

  /** Sent on a fixed beat, whatever became of the one before. */
  async #keepAlive(term: number): Promise<void> {
    this.#stepDownIfOverdue();
    const leadership = this.#leadership;
    if (leadership?.term !== term) return;
    const sentMs = this.#now();
    try {
      await this.#options.client.keepAlive(leadership.lease, leadership.limitMs / 2);
      leadership.ackedMs = Math.max(leadership.ackedMs, sentMs);
      leadership.failures.succeeded();
    } catch (error) {
      if (this.#leadership !== leadership) return;
      if (error instanceof EtcdLeaseLost) this.stepDown('the lease was lost');
      else leadership.failures.failed(error);
    }
  }

  #stepDownIfOverdue(): void {
    const leadership = this.#leadership;
    if (leadership === undefined) return;
    const silentMs = this.#now() - leadership.ackedMs;
    if (silentMs < leadership.limitMs) return;
    this.stepDown(`no keepalive sent in the last ${Math.round(silentMs)} ms was acknowledged`);
  }

  /**
   * Until it has worked: a lease outlives an outage of etcd, because etcd begins its TTL anew when it restarts, and the key under it
   * would keep everybody from leading for that long. After resigning there is only one attempt.
   */
  async #revoke(lease: string): Promise<void> {
    const backOff = new BackOff({ firstMs: 100, maxMs: 500 });
    const failures = new FailureLog(this.#options.log, 'revoking a lease');
    for (;;) {
      try {
        await this.#options.client.revokeLease(lease);
        return;
      } catch (error) {
        failures.failed(error);
      }
      if (this.#resigned.signal.aborted) return;
      await backOff.wait(this.#resigned.signal);
    }
  }
}
