/**
 * Which archives of code are kept: those of all jobs, as long as there is room. The leader alone stores and removes, one archive at a
 * time, so what it knows is what is there.
 */
import type { EtcdLog } from '../../shared/etcd/client.js';
import type { BundlesInUse } from '../core/bundles_in_use.js';
import { BundleFenced, type BundleStore, type StoredBundle } from './bundle_store.js';

/** Of all archives together. In etcd it is a third more, and the default quota of etcd is 2 GiB. */
const MAX_STORED_BYTES = 128 * 1024 * 1024;
/** etcd keeps what was removed until it is compacted, which is once an hour as `lockstep up` starts it: so much is written in that time. */
const MAX_WRITTEN_BYTES = 192 * 1024 * 1024;
const WRITTEN_MS = 3_600_000;
/** As many as there may be jobs. */
const MAX_STORED = 10_000;
/** An archive that no job refers to goes after this time: its job may be about to be submitted. */
const UNUSED_MS = 900_000;
const SWEEP_MS = 60_000;
const MAX_WAITING = 8;

export interface BundleKeeperOptions {
  readonly store: BundleStore;
  readonly inUse: () => BundlesInUse;
  /** The current term by the election's own clock; undefined when this coordinator does not lead. */
  readonly term: () => number | undefined;
  readonly log: EtcdLog;
  readonly maxStoredBytes?: number | undefined;
  readonly maxWrittenBytes?: number | undefined;
  readonly unusedMs?: number | undefined;
  /** Milliseconds that never go back; a parameter for tests only. */
  readonly nowMs?: (() => number) | undefined;
}

/** There is no room for an archive. */
export class NoRoomForBundle extends Error {
  override readonly name = 'NoRoomForBundle';
}

/** Too many archives wait to be stored. */
export class TooManyBundlesWait extends Error {
  override readonly name = 'TooManyBundlesWait';
}

interface Kept {
  readonly bundle: StoredBundle;
  /** Since when no job refers to it, as far as this leader has seen. */
  unusedSinceMs: number | undefined;
}

export class BundleKeeper {
  readonly #options: BundleKeeperOptions;
  readonly #nowMs: () => number;
  readonly #kept = new Map<string, Kept>();
  readonly #sweeper: NodeJS.Timeout;
  /** What was written in the last hour, oldest first. */
  #written: readonly { readonly atMs: number; readonly bytes: number }[] = [];
  #term: number | undefined;
  #waiting = 0;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(options: BundleKeeperOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#sweeper = setInterval(() => void this.sweep(), SWEEP_MS).unref();
  }

  /** This coordinator was elected: looks at what is there. Must be done before it takes any request. */
  async lead(term: number): Promise<void> {
    const stored = await this.#options.store.list();
    this.#kept.clear();
    for (const bundle of stored) this.#kept.set(bundle.sha256, { bundle, unusedSinceMs: undefined });
    this.#term = term;
  }

  /** Whether it is there, whole. Asked of the leader only. */
  holds(sha256: string): boolean {
    return this.#kept.get(sha256)?.bundle.whole === true;
  }

  /** Whether it is there, whole, for a job that is about to be submitted: it is kept for a while. */
  reserve(sha256: string): boolean {
    const kept = this.#kept.get(sha256);
    if (kept !== undefined) kept.unusedSinceMs = undefined;
    return kept?.bundle.whole === true;
  }

  /** Stores an archive whose digest was verified. */
  async keep(sha256: string, archive: Buffer): Promise<void> {
    if (this.#waiting >= MAX_WAITING) throw new TooManyBundlesWait(`${MAX_WAITING} archives wait to be stored already`);
    this.#waiting += 1;
    try {
      await this.#inTurn(async () => {
        const term = this.#currentTerm();
        if (!this.reserve(sha256)) await this.#store(term, sha256, archive);
      });
    } finally {
      this.#waiting -= 1;
    }
  }

  /** Removes what no job has referred to for some time. */
  async sweep(): Promise<void> {
    await this.#inTurn(async () => {
      const term = this.#options.term();
      if (term === undefined || term !== this.#term) return;
      const { needed, remembered } = this.#options.inUse();
      const used = new Set([...needed, ...remembered]);
      for (const kept of [...this.#kept.values()]) {
        if (used.has(kept.bundle.sha256)) kept.unusedSinceMs = undefined;
        else kept.unusedSinceMs ??= this.#nowMs();
        if (this.#isUnused(kept)) await this.#remove(term, kept.bundle);
      }
    }).catch((error: unknown) => {
      this.#options.log.warn('archives that no job refers to were not removed', { error: String(error) });
    });
  }

  close(): void {
    clearInterval(this.#sweeper);
  }

  async #store(term: number, sha256: string, archive: Buffer): Promise<void> {
    this.#mayWrite(archive.length);
    await this.#makeRoom(term, archive.length);
    this.#written = [...this.#written, { atMs: this.#nowMs(), bytes: archive.length }];
    this.#kept.set(sha256, {
      bundle: await this.#options.store.write(term, sha256, archive),
      unusedSinceMs: undefined,
    });
  }

  #mayWrite(bytes: number): void {
    const sinceMs = this.#nowMs() - WRITTEN_MS;
    this.#written = this.#written.filter(({ atMs }) => atMs > sinceMs);
    const before = this.#written.reduce((sum, one) => sum + one.bytes, 0);
    const limit = this.#options.maxWrittenBytes ?? MAX_WRITTEN_BYTES;
    if (before + bytes <= limit) return;
    const mebibytes = Math.round(limit / 1024 / 1024);
    throw new NoRoomForBundle(
      `more than ${mebibytes} MiB of code were sent within an hour; wait, or use --shared-folder`,
    );
  }

  /** What nobody refers to goes first, then the code of the jobs that ended longest ago. */
  async #makeRoom(term: number, bytes: number): Promise<void> {
    const { needed, remembered } = this.#options.inUse();
    const unused = [...this.#kept.values()].filter((kept) => !needed.has(kept.bundle.sha256) && this.#isUnused(kept));
    for (const sha256 of [...unused.map(({ bundle }) => bundle.sha256), ...remembered]) {
      if (this.#fits(bytes)) return;
      const kept = this.#kept.get(sha256);
      if (kept === undefined) continue;
      this.#options.log.info('an archive makes room for another', { sha256, bytes: kept.bundle.bytes });
      await this.#remove(term, kept.bundle);
    }
    if (this.#fits(bytes)) return;
    const mebibytes = Math.round(this.#maxBytes / 1024 / 1024);
    throw new NoRoomForBundle(
      `there is no room for the code: jobs that have not ended take up the ${mebibytes} MiB that etcd may hold; ` +
        'wait for one to end, cancel one, or use --shared-folder',
    );
  }

  /** It counts as gone from the first moment on, so that no submit relies on it meanwhile. */
  async #remove(term: number, bundle: StoredBundle): Promise<void> {
    this.#kept.delete(bundle.sha256);
    try {
      await this.#options.store.remove(term, bundle);
    } catch (error) {
      // Whether it is there is not known: it is tried again, and until then not relied on.
      this.#kept.set(bundle.sha256, { bundle: { ...bundle, whole: false }, unusedSinceMs: this.#nowMs() });
      throw error;
    }
  }

  #isUnused({ unusedSinceMs }: Kept): boolean {
    const unusedMs = this.#options.unusedMs ?? UNUSED_MS;
    return unusedSinceMs !== undefined && this.#nowMs() - unusedSinceMs >= unusedMs;
  }

  get #maxBytes(): number {
    return this.#options.maxStoredBytes ?? MAX_STORED_BYTES;
  }

  #fits(bytes: number): boolean {
    let stored = 0;
    for (const { bundle } of this.#kept.values()) stored += bundle.bytes;
    return stored + bytes <= this.#maxBytes && this.#kept.size < MAX_STORED;
  }

  #currentTerm(): number {
    const term = this.#options.term();
    if (term === undefined || term !== this.#term) throw new BundleFenced();
    return term;
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const outcome = this.#tail.then(act);
    this.#tail = outcome.catch(() => undefined);
    return outcome;
  }
}
