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
  /** The shards were read back: under their name it is enough that they are there. */
  readonly isRead: boolean;
  /** Runs `act` after a while, unless the daemon is gone by then. */
  readonly later: (usualMs: number, act: () => void) => void;
  readonly done: (outcome: Published) => void;
}

export class Publication {
  /** The checkpoint is our draft. */
  #won = false;
  /** What has the name was found to be another once; another publisher may be in the middle of its renames. */
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

  /** Whether the storage is away: then it is given up. */
  #unreachable(): boolean {
    if (this.options.storage.reachable) return false;
    this.#giveUp('cannot read or write: the storage cannot be reached', this.#aside !== undefined);
    return true;
  }

  #giveUp(reason: string, undo: boolean): void {
    const { storage, path, done } = this.options;
    const undoes = undo && storage.reachable;
    if (undoes && this.#won) storage.takeAway(path, 'undone');
    if (undoes && this.#aside !== undefined) storage.putBack(path, this.#aside);
    done({ kind: 'failed', reason: `${path} ${reason}` });
  }

  #attempt(): void {
    const { storage, draft, path, later } = this.options;
    if (this.#unreachable()) return;
    this.#attempts += 1;
    if (this.#attempts > MAX_ATTEMPTS) {
      this.#giveUp('cannot be published: its shards are gone or not all there', this.#aside !== undefined);
      return;
    }
    if (!this.#won && this.#isReady() && storage.rename(draft, path)) this.#won = true;
    later(this.options.isRead ? 1 : 8, () => this.#look());
  }

  #isReady(): boolean {
    const draft = this.options.storage.draft(this.options.draft);
    return draft?.manifest !== undefined && draft.hasFiles(this.options.manifest.shards);
  }

  #look(): void {
    const { storage, path, later } = this.options;
    if (this.#unreachable()) return;
    const folder = storage.at(path);
    if (folder === undefined) {
      const isChanged = this.#putBack();
      later(isChanged ? 1 : PAUSE_MS, () => this.#attempt());
      return;
    }
    const problem = this.#problemWith(folder);
    if (problem === undefined && folder.manifest !== undefined) {
      storage.discard(this.options.draft);
      this.options.done({ kind: 'published', manifest: folder.manifest });
    } else if (this.#isOlderThan(folder)) {
      this.#giveUp('is of a newer save, which has another state', this.#aside !== undefined);
    } else this.#makeWay(problem ?? 'has no manifest');
  }

  /** What is wrong with what has the name, or that it is another state than the one saved. */
  #problemWith(folder: Folder): string | undefined {
    const { manifest, isRead } = this.options;
    const found = folder.manifest;
    const isOurs = isRead && found?.sha256 === manifest.sha256;
    const problem = isOurs ? undefined : folder.problem;
    if (problem !== undefined) return problem;
    return found?.stateSha256 === manifest.stateSha256 ? undefined : 'holds another state than the one saved';
  }

  /** After shared/checkpoint/newer_save.ts. */
  #isOlderThan({ problem, manifest: found }: Folder): boolean {
    const { createdMs, stateSha256 } = this.options.manifest;
    if (problem !== undefined || found === undefined) return false;
    return found.stateSha256 !== stateSha256 && found.createdMs > createdMs;
  }

  #makeWay(problem: string): void {
    const { storage, path, later } = this.options;
    let isChanged = false;
    if (this.#won || !this.#isReady()) {
      if (this.#doubted) {
        this.#giveUp(problem, true);
        return;
      }
      this.#doubted = true;
    } else {
      this.#aside = storage.takeAway(path, 'replaced') ?? this.#aside;
      isChanged = true;
    }
    later(isChanged ? 1 : PAUSE_MS, () => this.#attempt());
  }

  /** Nothing has the name. What we moved away may have been the very checkpoint, if another publisher took the draft. */
  #putBack(): boolean {
    if (this.#aside === undefined || this.#won || this.#isReady()) return false;
    if (!this.options.storage.putBack(this.options.path, this.#aside)) return false;
    this.#aside = undefined;
    return true;
  }
}
