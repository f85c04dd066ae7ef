/**
 * Gives a draft the name of its checkpoint, after shared/checkpoint/directory_publication.ts. Others may do the same at the same time, and
 * whoever does it may die between any two steps.
 */
import type { Folder, Manifest, Storage } from './storage.js';

const MAX_ATTEMPTS = 6;
const PAUSE_MS = 50;

export type Published =
  | { readonly kind: 'published'; readonly manifest: Manifest }
  | { readonly kind: 'failed'; readonly reason: string };

export interface PublicationOptions {
  readonly storage: Storage;
  /** Name of the draft. */
  readonly draft: string;
  readonly path: string;
  readonly manifest: Manifest;
  /** Runs `act` after a while, unless the daemon is gone by then. */
  readonly later: (usualMs: number, act: () => void) => void;
  readonly done: (outcome: Published) => void;
}

export class Publication {
  /** The checkpoint is our draft. */
  #won = false;
  /** Our own checkpoint was found damaged once; another publisher may just have moved it. */
  #doubted = false;
  /** What had the name before. */
  #aside: Folder | undefined;
  #attempts = 0;

  constructor(private readonly options: PublicationOptions) {}

  run(): void {
    const { storage, draft, manifest, later } = this.options;
    if (this.#unreachable()) return;
    const folder = storage.draft(draft);
    if (folder?.hasFiles(manifest.shards) === true) folder.manifest = manifest;
    later(2, () => this.#attempt());
  }

  /** Whether the storage is away or fails: then it is given up, and as it was before. */
  #unreachable(): boolean {
    if (this.options.storage.reachable) return false;
    if (this.#aside !== undefined) this.#undo();
    this.#fail('cannot read or write: the storage cannot be reached');
    return true;
  }

  #fail(reason: string): void {
    this.options.done({ kind: 'failed', reason });
  }

  #attempt(): void {
    const { storage, draft, path, later } = this.options;
    if (this.#unreachable()) return;
    this.#attempts += 1;
    if (this.#attempts > MAX_ATTEMPTS) {
      this.#fail(`cannot publish ${path}: its shards are gone or not all there`);
      return;
    }
    if (!this.#won && this.#isReady() && storage.rename(draft, path)) this.#won = true;
    later(8, () => this.#look());
  }

  #isReady(): boolean {
    const draft = this.options.storage.draft(this.options.draft);
    return draft?.manifest !== undefined && draft.hasFiles(this.options.manifest.shards);
  }

  #look(): void {
    const { storage, path, manifest, later } = this.options;
    if (this.#unreachable()) return;
    const folder = storage.at(path);
    if (folder === undefined) this.#putBack();
    else {
      const found = folder.manifest;
      const { problem } = folder;
      if (found !== undefined && problem === undefined && found.stateSha256 === manifest.stateSha256) {
        this.#finish(found);
        return;
      }
      if (!this.#makeWay(problem ?? 'holds another state than the one saved')) return;
    }
    later(1 + this.#attempts * PAUSE_MS, () => this.#attempt());
  }

  #finish(manifest: Manifest): void {
    this.options.storage.discard(this.options.draft);
    this.options.done({ kind: 'published', manifest });
  }

  /** What has the name is not what we save. False if it is given up. */
  #makeWay(problem: string): boolean {
    if (this.#won) {
      if (this.#doubted) return this.#giveUp(problem);
      this.#doubted = true;
      return true;
    }
    if (!this.#isReady()) return this.#giveUp(problem);
    this.#aside = this.options.storage.takeAway(this.options.path, 'replaced') ?? this.#aside;
    return true;
  }

  #giveUp(problem: string): false {
    this.#undo();
    this.#fail(`${this.options.path} ${problem}`);
    return false;
  }

  #putBack(): void {
    if (this.#aside === undefined || this.#isReady()) return;
    if (this.options.storage.putBack(this.options.path, this.#aside)) this.#aside = undefined;
  }

  #undo(): void {
    const { storage, path } = this.options;
    if (this.#won) storage.takeAway(path, 'undone');
    if (this.#aside !== undefined) storage.putBack(path, this.#aside);
  }
}
