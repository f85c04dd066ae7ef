/**
 * The folders that engines load their code from: each fresh and private, below a folder that is this worker's alone, and gone with
 * the engine.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { unpackInto } from '../../shared/bundle/unpack.js';
import { ConfigError } from '../../shared/config.js';

const PRIVATE = 0o700;
/** Ours, of this daemon or of one before it. */
const OURS = /^(code-\d+|unpacking-.*|preflight-\d+)$/;

export class CodeFolders {
  readonly #root: string;

  /** Removes what a daemon before this one has left. Throws when the folder is not private and cannot be. */
  constructor(root: string) {
    this.#root = root;
    mkdirSync(root, { recursive: true, mode: PRIVATE });
    makePrivate(root);
    this.clear();
  }

  /** The folder with the content of the archive, for the engine of this number. Throws a BundleError if the archive is not to be trusted. */
  async create(start: number, archive: Uint8Array): Promise<string> {
    const fresh = await mkdtemp(join(this.#root, 'unpacking-'));
    const folder = this.#folderOf(start);
    try {
      await unpackInto(fresh, archive);
      await rename(fresh, folder);
      return folder;
    } catch (error) {
      await rm(fresh, { recursive: true, force: true });
      throw error;
    }
  }

  async remove(start: number): Promise<void> {
    await rm(this.#folderOf(start), { recursive: true, force: true, maxRetries: 3 });
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
      if (OURS.test(name)) rmSync(join(this.#root, name), { recursive: true, force: true });
    }
  }

  #folderOf(start: number): string {
    return join(this.#root, `code-${start}`);
  }
}

/** In a folder that all may write to, such as /tmp, somebody else may have been there first. */
function makePrivate(folder: string): void {
  const facts = lstatSync(folder);
  if (!facts.isDirectory() || facts.uid !== process.getuid?.()) {
    throw new ConfigError(
      `${folder} is not a folder of this user; name another one in the key code_dir of the configuration`,
    );
  }
  chmodSync(folder, PRIVATE);
}
