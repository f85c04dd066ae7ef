/**
 * The durable facts in etcd. Every write is one transaction that holds only while the leader's key has the writer's term (its
 * create revision): a deposed leader can change nothing, whatever it believes.
 *
 * Each write also replaces the key `operations/<term>` by its own operation id, and holds only if that key still has the revision
 * that the write before it left. So an attempt whose answer was lost can be repeated: if it was stored, the repetition finds its
 * id there; and an attempt that comes late, after its repetition or even after the next write, changes nothing.
 */
import { BackOff } from '../../shared/etcd/back_off.js';
import type { Comparison, EtcdClient, EtcdLog, Operation, TransactionResult } from '../../shared/etcd/client.js';
import { EtcdCompacted, EtcdFailure, EtcdTimedOut, EtcdUnexpected } from '../../shared/etcd/errors.js';
import {
  accountsFolder,
  checkpointsFolder,
  eventsFolder,
  generationsFolder,
  jobsFolder,
  leaderKey,
  nodesFolder,
  operationKey,
  operationsFolder,
} from '../../shared/etcd/keys.js';

export interface StoreOptions {
  readonly client: EtcdClient;
  readonly log: EtcdLog;
  /** Writes that may wait for those before them; one more is refused. */
  readonly maxQueued?: number | undefined;
  /** Longest time that one write is tried. */
  readonly writeDeadlineMs?: number | undefined;
  /** More entries than this in one folder are an error of loadAll. */
  readonly maxEntries?: number | undefined;
}

export interface Put {
  readonly key: string;
  readonly value: string;
}

export interface Write {
  readonly term: number;
  /** Id of this write, never used for another. */
  readonly operation: string;
  readonly puts: readonly Put[];
  readonly deletes: readonly string[];
}

export interface Loaded {
  /** Revision of etcd at which all entries were read. */
  readonly revision: number;
  readonly entries: ReadonlyMap<string, string>;
}

/** Too many writes wait. Nothing was stored. */
export class StoreQueueFull extends Error {
  constructor(maxQueued: number) {
    super(`${maxQueued} writes to etcd wait already: etcd is slower than what it is given`);
    this.name = 'StoreQueueFull';
  }
}

/** The write itself cannot be done: too many operations, too many bytes, or a key twice. Nothing was stored. */
export class StoreWriteInvalid extends Error {
  constructor(operation: string, problem: string) {
    super(`write ${operation} ${problem}`);
    this.name = 'StoreWriteInvalid';
  }
}

/** A write that was queued before this one failed, so this one was not tried: what is stored is always a prefix. */
export class StoreWriteAbandoned extends Error {
  constructor(operation: string, cause: unknown) {
    super(`write ${operation} was not tried, because one before it failed: ${String(cause)}`, { cause });
    this.name = 'StoreWriteAbandoned';
  }
}

/** etcd refuses more than 128 operations and 1.5 MiB a transaction by default; the marker and the keys need some of that. */
const maxOperations = 120;
const maxBytes = 1_250_000;
const LOADED = [jobsFolder, generationsFolder, checkpointsFolder, nodesFolder, accountsFolder, eventsFolder];
const loadAttempts = 3;
/** Markers of this many terms stay, so that a leader deposed a moment ago can still learn what became of its last write. */
const keptMarkers = 8;
const removedMarkers = 64;

export class Store {
  readonly #client: EtcdClient;
  readonly #log: EtcdLog;
  readonly #maxQueued: number;
  readonly #writeDeadlineMs: number;
  readonly #maxEntries: number;
  readonly #never = new AbortController().signal;
  #tail: Promise<unknown> = Promise.resolve();
  #queued = 0;
  /** The newest failure, and how many there were when a write was queued. */
  #failures = 0;
  #lastFailure: unknown;
  /** The marker that the newest stored write of `term` left. */
  #marker = { term: -1, revision: 0 };

  constructor(options: StoreOptions) {
    this.#client = options.client;
    this.#log = options.log;
    this.#maxQueued = options.maxQueued ?? 256;
    this.#writeDeadlineMs = options.writeDeadlineMs ?? 5000;
    this.#maxEntries = options.maxEntries ?? 100_000;
  }

  /** Everything in the folders that a leader begins with, at one revision. */
  async loadAll(): Promise<Loaded> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#loadOnce();
      } catch (error) {
        // A compaction between two pages took the revision away.
        if (!(error instanceof EtcdCompacted) || attempt === loadAttempts) throw error;
      }
    }
  }

  /**
   * 'stored': it is in etcd, now and for ever. 'fenced': another leads, nothing was changed. An error: whether it was stored is
   * unknown if it is an EtcdFailure with mayHaveHappened, otherwise it was not; the writes queued behind it are abandoned. After an
   * error the writer no longer knows what is stored, and should step down and load anew.
   */
  write(write: Write): Promise<'stored' | 'fenced'> {
    const problem = problemOf(write);
    if (problem !== undefined) return Promise.reject(new StoreWriteInvalid(write.operation, problem));
    if (this.#queued >= this.#maxQueued) return Promise.reject(new StoreQueueFull(this.#maxQueued));
    this.#queued += 1;
    const failuresBefore = this.#failures;
    const outcome = this.#tail.then(() => {
      this.#queued -= 1;
      return this.#writeInTurn(write, failuresBefore);
    });
    this.#tail = outcome.catch(() => undefined);
    return outcome;
  }

  async #loadOnce(): Promise<Loaded> {
    const entries = new Map<string, string>();
    let revision: number | undefined;
    for (const prefix of LOADED) {
      const listing = await this.#client.list({ kind: 'prefix', prefix }, { revision, maxEntries: this.#maxEntries });
      revision = listing.revision;
      for (const { key, value } of listing.entries) entries.set(key, value);
    }
    return { revision: revision ?? 0, entries };
  }

  async #writeInTurn(write: Write, failuresBefore: number): Promise<'stored' | 'fenced'> {
    if (this.#failures !== failuresBefore) throw new StoreWriteAbandoned(write.operation, this.#lastFailure);
    const firstOfTerm = this.#marker.term !== write.term;
    if (firstOfTerm) this.#marker = { term: write.term, revision: 0 };
    try {
      const outcome = await this.#attemptUntilKnown(write);
      if (firstOfTerm && outcome === 'stored') await this.#removeOldMarkers(write.term);
      return outcome;
    } catch (error) {
      this.#failures += 1;
      this.#lastFailure = error;
      throw error;
    }
  }

  async #attemptUntilKnown(write: Write): Promise<'stored' | 'fenced'> {
    const backOff = new BackOff({ firstMs: 20, maxMs: 500 });
    const startedMs = performance.now();
    let unknown: EtcdFailure | undefined;
    for (;;) {
      const leftMs = this.#writeDeadlineMs - (performance.now() - startedMs);
      if (leftMs <= 0) throw unknown ?? new EtcdTimedOut(`write ${write.operation}`, 'no attempt was possible in time');
      try {
        const outcome = await this.#attempt(write, Math.min(this.#client.callTimeoutMs, leftMs));
        if (outcome !== 'again') return outcome;
      } catch (error) {
        if (!(error instanceof EtcdFailure)) throw error;
        if (!error.mayHaveHappened) {
          // This attempt was refused, but one before it may have been stored.
          if (unknown !== undefined && (await this.#isStored(write))) return 'stored';
          throw error;
        }
        unknown = error;
        this.#log.warn('write has no answer yet, trying again', { operation: write.operation, error: String(error) });
        await backOff.wait(this.#never);
      }
    }
  }

  async #attempt(write: Write, timeoutMs: number): Promise<'stored' | 'fenced' | 'again'> {
    const result = await this.#client.transact(
      {
        when: [leads(write.term), this.#markerIs(write.term)],
        success: [
          ...write.puts.map(({ key, value }): Operation => ({ kind: 'put', key, value })),
          ...write.deletes.map((key): Operation => ({ kind: 'delete', key })),
          { kind: 'put', key: operationKey(write.term), value: write.operation },
        ],
        failure: [
          { kind: 'get', key: leaderKey },
          { kind: 'get', key: operationKey(write.term) },
        ],
      },
      timeoutMs,
    );
    if (!result.succeeded) return this.#whyNot(write, result);
    this.#marker = { term: write.term, revision: result.revision };
    return 'stored';
  }

  #whyNot(write: Write, { found: [leader, marker] }: TransactionResult): 'stored' | 'fenced' | 'again' {
    if (marker !== undefined && marker.value === write.operation) {
      this.#marker = { term: write.term, revision: marker.modRevision };
      return 'stored';
    }
    if (leader?.createRevision !== write.term) return 'fenced';
    // An earlier write of this term, whose outcome we never learnt, was stored after all.
    if (marker !== undefined && marker.modRevision > this.#marker.revision) {
      this.#marker = { term: write.term, revision: marker.modRevision };
      return 'again';
    }
    throw new EtcdUnexpected(`write ${write.operation}`, 'the operation marker of this term was removed or set back');
  }

  #markerIs(term: number): Comparison {
    return { key: operationKey(term), field: 'modRevision', equals: this.#marker.revision };
  }

  async #isStored(write: Write): Promise<boolean> {
    const { entry } = await this.#client.get(operationKey(write.term));
    if (entry?.value !== write.operation) return false;
    this.#marker = { term: write.term, revision: entry.modRevision };
    return true;
  }

  /** One marker a term would fill etcd in the end. Nothing depends on it, so a failure is only logged. */
  async #removeOldMarkers(term: number): Promise<void> {
    try {
      const { entries } = await this.#client.list({ kind: 'prefix', prefix: operationsFolder });
      const old = entries.slice(0, -keptMarkers).slice(0, removedMarkers);
      if (old.length === 0) return;
      await this.#client.transact({
        when: [leads(term)],
        success: old.map(({ key }): Operation => ({ kind: 'delete', key })),
      });
    } catch (error) {
      this.#log.warn('old operation markers were not removed', { error: String(error) });
    }
  }
}

/** Holds while the leader of that term leads. */
export function leads(term: number): Comparison {
  return { key: leaderKey, field: 'createRevision', equals: term };
}

function problemOf({ puts, deletes }: Write): string | undefined {
  const keys = [...puts.map(({ key }) => key), ...deletes];
  if (keys.length > maxOperations) return `has ${keys.length} operations, more than ${maxOperations}`;
  const twice = keys.find((key, index) => keys.indexOf(key) !== index);
  if (twice !== undefined) return `has the key ${twice} twice`;
  const bytes = puts.reduce((sum, { key, value }) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0);
  if (bytes > maxBytes) return `has ${bytes} bytes, more than ${maxBytes}`;
  return undefined;
}
