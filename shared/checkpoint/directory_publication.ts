/**
 * Gives a draft the name of its checkpoint. Others may do the same at the same time: a publisher that was frozen and given up wakes, or
 * a second one was told to take over. Each step is one rename, which either happens or is refused, and each looks at what is there
 * rather than at what it did before.
 */
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DamagedCheckpoint, StorageFailure } from './errors.js';
import type { FileOperations } from './file_operations.js';
import { deleteFolder, renamed, statusOf, syncFolder } from './folder_files.js';
import { MANIFEST_FILE } from './names.js';
import { mustNotBeOlder } from './newer_save.js';
import type { NewManifest } from './storage.js';
import type { VerifiedCheckpoint } from './verify.js';

const MAX_ATTEMPTS = 6;
const PAUSE_MS = 100;

export interface PublicationPaths {
  readonly folder: string;
  readonly draft: string;
  readonly final: string;
  newAside(kind: 'replaced' | 'removing'): string;
}

type Found =
  | { readonly kind: 'same'; readonly checkpoint: VerifiedCheckpoint }
  | { readonly kind: 'other'; readonly problem: Error }
  | { readonly kind: 'nothing' };

export class DirectoryPublication {
  /** The checkpoint is our draft. */
  #won = false;
  /** We could not make the name durable. */
  #unsynced = false;
  /** What should be our state was found to be none once; another publisher may just have moved it. */
  #doubted = false;
  /** Where what had the name before is now. */
  #aside: string | undefined;

  constructor(
    private readonly files: FileOperations,
    private readonly paths: PublicationPaths,
    private readonly manifest: NewManifest,
    private readonly verify: () => Promise<VerifiedCheckpoint>,
  ) {}

  /** All its shards are there and have their length. The manifest may still be missing. */
  async isDraftComplete(): Promise<boolean> {
    for (const { file, bytes } of this.manifest.files) {
      const status = await statusOf(this.files, `${this.paths.draft}/${file}`);
      if (status?.kind !== 'file' || status.bytes !== bytes) return false;
    }
    return true;
  }

  async run(): Promise<VerifiedCheckpoint> {
    try {
      return await this.#compete();
    } catch (error) {
      // What only could not be read back stays: another publisher of this save may have verified it by now.
      if (error instanceof DamagedCheckpoint || this.#unsynced || this.#aside !== undefined) await this.#undo();
      throw error;
    }
  }

  async #compete(): Promise<VerifiedCheckpoint> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      await this.#takeName();
      const found = await this.#look();
      if (found.kind === 'same') return await this.#finish(found.checkpoint);
      const isChanged = found.kind === 'nothing' ? await this.#putBack() : await this.#makeWay(found.problem);
      // Another publisher may be in the middle of its renames.
      if (!isChanged) await delay(PAUSE_MS);
    }
    const { draft, final } = this.paths;
    throw new StorageFailure(
      `cannot publish ${final}: its shards in ${draft} are gone or not all there; it was abandoned or removed`,
    );
  }

  async #takeName(): Promise<void> {
    const { draft, final } = this.paths;
    if (this.#won || !(await this.#isReady())) return;
    if (!(await renamed(this.files, draft, final))) return;
    this.#won = true;
    this.#unsynced = true;
    await this.#syncName();
    this.#unsynced = false;
  }

  /** Whoever made the folder may have died before that was durable. */
  async #syncName(): Promise<void> {
    await syncFolder(this.files, this.paths.folder);
    await syncFolder(this.files, dirname(this.paths.folder));
  }

  async #isReady(): Promise<boolean> {
    const manifest = await statusOf(this.files, `${this.paths.draft}/${MANIFEST_FILE}`);
    return manifest?.kind === 'file' && (await this.isDraftComplete());
  }

  async #look(): Promise<Found> {
    try {
      const checkpoint = await this.verify();
      if (checkpoint.manifest.stateSha256 === this.manifest.stateSha256) return { kind: 'same', checkpoint };
      mustNotBeOlder(this.paths.final, this.manifest, checkpoint);
      return {
        kind: 'other',
        problem: new DamagedCheckpoint(this.paths.final, 'holds another state than the one saved'),
      };
    } catch (error) {
      if (!(error instanceof DamagedCheckpoint)) throw error;
      if ((await statusOf(this.files, this.paths.final)) === undefined) return { kind: 'nothing' };
      return { kind: 'other', problem: error };
    }
  }

  async #finish(checkpoint: VerifiedCheckpoint): Promise<VerifiedCheckpoint> {
    // Whoever gave it its name may have died before that was durable.
    if (!this.#won) await this.#syncName();
    if (this.#aside !== undefined) await deleteFolder(this.files, this.#aside).catch(() => undefined);
    return checkpoint;
  }

  /** What has the name is not what we save. Returns whether it has it no more. */
  async #makeWay(problem: Error): Promise<boolean> {
    if (this.#won || !(await this.#isReady())) {
      if (this.#doubted) throw problem;
      this.#doubted = true;
      return false;
    }
    const aside = this.paths.newAside('replaced');
    if (!(await renamed(this.files, this.paths.final, aside))) return false;
    this.#aside = aside;
    return true;
  }

  /**
   * Nothing has the name. If another publisher took the draft, what we moved away may have been the very checkpoint; if we did, then
   * that is what the other one does. Returns whether something has the name now.
   */
  async #putBack(): Promise<boolean> {
    if (this.#aside === undefined || this.#won || (await this.#isReady())) return false;
    if (!(await renamed(this.files, this.#aside, this.paths.final))) return false;
    this.#aside = undefined;
    return true;
  }

  /** As it was before; as far as the file system allows. */
  async #undo(): Promise<void> {
    const removing = this.paths.newAside('removing');
    if (this.#won) await renamed(this.files, this.paths.final, removing).catch(() => false);
    if (this.#aside !== undefined) await renamed(this.files, this.#aside, this.paths.final).catch(() => false);
    if (this.#won) await deleteFolder(this.files, removing).catch(() => undefined);
  }
}
