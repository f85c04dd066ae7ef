/**
 * Archives of code in etcd, each in pieces below etcd's limit of a request.
 *
 * The key `bundles/<sha256>` comes first and says that the archive is not whole; then come the pieces; at last it says that it is. Every
 * write holds only under the leader's term and while that key is still the one that was created: so an attempt that comes late, after
 * the archive was removed or stored anew, changes nothing. Without the key there are no pieces.
 */
import { z } from 'zod';
import { SHA256_HEX } from '../../shared/bundle/reference.js';
import { BackOff } from '../../shared/etcd/back_off.js';
import type { Comparison, EtcdClient, Operation, TransactionResult } from '../../shared/etcd/client.js';
import { EtcdFailure, EtcdTimedOut } from '../../shared/etcd/errors.js';
import { bundleKey, bundlePieceKey, bundlesFolder, leaderKey } from '../../shared/etcd/keys.js';
import { leads } from './store.js';

/** As base64, which etcd's values are here, it is a third more. etcd refuses requests above 1.5 MiB. */
const PIECE_BYTES = 512 * 1024;
const WRITE_MS = 5_000;
/** More than the keeper ever has. */
const MAX_BUNDLES = 20_000;

const manifest = z.object({
  bytes: z.number().int().min(0),
  pieces: z.number().int().min(0).max(100),
  whole: z.boolean(),
});

export interface StoredBundle {
  readonly sha256: string;
  /** Of the archive. */
  readonly bytes: number;
  readonly pieces: number;
  readonly whole: boolean;
  /** Of its key: stored anew it has another. */
  readonly createRevision: number;
}

/** Another coordinator leads. Nothing was changed. */
export class BundleFenced extends Error {
  override readonly name = 'BundleFenced';

  constructor() {
    super('this coordinator does not lead any more');
  }
}

export class BundleStore {
  readonly #never = new AbortController().signal;

  constructor(private readonly client: EtcdClient) {}

  async list(): Promise<readonly StoredBundle[]> {
    const options = { maxEntries: MAX_BUNDLES };
    const { entries } = await this.client.list({ kind: 'prefix', prefix: bundlesFolder }, options);
    return entries.flatMap(({ key, value, createRevision }) => {
      const sha256 = key.slice(bundlesFolder.length);
      return SHA256_HEX.test(sha256) ? [{ sha256, createRevision, ...parse(key, value) }] : [];
    });
  }

  /** Stores an archive whose digest was verified. Throws BundleFenced, or an EtcdFailure after which it may be there in part. */
  async write(term: number, sha256: string, archive: Buffer): Promise<StoredBundle> {
    const pieces = Math.ceil(archive.length / PIECE_BYTES);
    const facts = { bytes: archive.length, pieces };
    const createRevision = await this.#begin(term, sha256, facts);
    const key = bundleKey(sha256);
    const when = [leads(term), isSame(key, createRevision)];
    for (let piece = 0; piece < pieces; piece++) {
      const value = archive.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES).toString('base64');
      await this.#change(when, [{ kind: 'put', key: bundlePieceKey(sha256, piece), value }]);
    }
    await this.#change(when, [{ kind: 'put', key, value: JSON.stringify({ ...facts, whole: true }) }]);
    return { sha256, ...facts, whole: true, createRevision };
  }

  async remove(term: number, { sha256, pieces, createRevision }: StoredBundle): Promise<void> {
    const key = bundleKey(sha256);
    const keys = [key, ...Array.from({ length: pieces }, (_, piece) => bundlePieceKey(sha256, piece))];
    const deletes = keys.map((one): Operation => ({ kind: 'delete', key: one }));
    // Removed by an attempt whose answer was lost is removed as well.
    await this.#transact([leads(term), isSame(key, createRevision)], deletes, [{ kind: 'get', key: leaderKey }]).then(
      ({ succeeded, found: [leader] }) => {
        if (!succeeded && leader?.createRevision !== term) throw new BundleFenced();
      },
    );
  }

  /** The whole archive, or undefined if it is not there. Whoever gets it must verify its digest. */
  async read(sha256: string): Promise<Buffer | undefined> {
    const { entry } = await this.client.get(bundleKey(sha256));
    if (entry === undefined) return undefined;
    const { pieces, whole } = parse(entry.key, entry.value);
    if (!whole) return undefined;
    const read: Buffer[] = [];
    for (let piece = 0; piece < pieces; piece++) {
      const { entry: part } = await this.client.get(bundlePieceKey(sha256, piece));
      if (part === undefined) return undefined; // It was removed meanwhile.
      read.push(Buffer.from(part.value, 'base64'));
    }
    return Buffer.concat(read);
  }

  /** The create revision of the archive's key, which an earlier attempt may have made. */
  async #begin(
    term: number,
    sha256: string,
    facts: { readonly bytes: number; readonly pieces: number },
  ): Promise<number> {
    const key = bundleKey(sha256);
    const put: Operation = { kind: 'put', key, value: JSON.stringify({ ...facts, whole: false }) };
    const absent: Comparison = { key, field: 'createRevision', equals: 0 };
    const otherwise: readonly Operation[] = [
      { kind: 'get', key: leaderKey },
      { kind: 'get', key },
    ];
    const result = await this.#transact([leads(term), absent], [put], otherwise);
    if (result.succeeded) return result.revision;
    const [leader, known] = result.found;
    if (leader?.createRevision !== term || known === undefined) throw new BundleFenced();
    return known.createRevision;
  }

  async #change(when: readonly Comparison[], success: readonly Operation[]): Promise<void> {
    if (!(await this.#transact(when, success, [])).succeeded) throw new BundleFenced();
  }

  /** All that is done here may be done twice, so what has no answer is done again. */
  async #transact(
    when: readonly Comparison[],
    success: readonly Operation[],
    failure: readonly Operation[],
  ): Promise<TransactionResult> {
    const backOff = new BackOff({ firstMs: 20, maxMs: 500 });
    const untilMs = performance.now() + WRITE_MS;
    let last: unknown;
    for (;;) {
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0) throw last ?? new EtcdTimedOut('store an archive', 'no attempt was possible in time');
      try {
        return await this.client.transact({ when, success, failure }, Math.min(this.client.callTimeoutMs, leftMs));
      } catch (error) {
        if (!(error instanceof EtcdFailure) || !error.mayHaveHappened) throw error;
        last = error;
        await backOff.wait(this.#never);
      }
    }
  }
}

function parse(key: string, value: string): z.output<typeof manifest> {
  try {
    return manifest.parse(JSON.parse(value));
  } catch (error) {
    throw new Error(`etcd key ${key} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function isSame(key: string, createRevision: number): Comparison {
  return { key, field: 'createRevision', equals: createRevision };
}
