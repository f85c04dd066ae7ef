/**
 * The folders that engines load their code from: each fresh and private, below a folder that is this worker's alone, and gone with
 * the engine.
 */
import { chmodSync, readdirSync, rmdirSync } from 'node:fs';
import { chmod, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Readers, unpackInto } from '../../shared/bundle/unpack.js';
import { removeFolder, removeFolderNow } from './closed_folders.js';
import { makePrivate } from './private_folder.js';

/** Where engines have a user of their own: its group finds the folder that it is told, and reads what is in it. */
const PASSABLE = 0o710;
const READABLE = 0o750;
/** Ours, of this daemon or of one before it. */
const OURS = /^(code-\d+|unpacking-.*|preflight-\d+)$/;

export class CodeFolders {
  readonly #root: string;

  /** Removes what a daemon before this one has left. Throws when the folder is not private and cannot be. */
  constructor(
    root: string,
    private readonly readers: Readers = 'owner',
  ) {
    this.#root = root;
    makePrivate(root, 'code_dir');
    if (readers === 'group') chmodSync(root, PASSABLE);
    this.clear();
  }

  /** The folder with the content of the archive, for the engine of this number. Throws a BundleError if the archive is not to be trusted. */
  async create(start: number, archive: Uint8Array): Promise<string> {
    const fresh = await mkdtemp(join(this.#root, 'unpacking-'));
    const folder = this.#folderOf(start);
    try {
      await unpackInto(fresh, archive, this.readers);
      if (this.readers === 'group') await chmod(fresh, READABLE);
      await rename(fresh, folder);
      return folder;
    } catch (error) {
      await rm(fresh, { recursive: true, force: true });
      throw error;
    }
  }

  async remove(start: number): Promise<void> {
    await removeFolder(this.#folderOf(start));
  }

  /** Nothing is created any more. */
  close(): void {
    this.clear();
    try {
      rmdirSync(this.#root);
    } catch {
      // Somebody has put something else there.
    }
  }

  clear(): void {
    for (const name of readdirSync(this.#root)) {
      if (OURS.test(name)) removeFolderNow(join(this.#root, name));
    }
  }

  #folderOf(start: number): string {
    return join(this.#root, `code-${start}`);
  }
}
