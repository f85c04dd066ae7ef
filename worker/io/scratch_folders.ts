/**
 * The folders that engines have for temporary files (TMPDIR): each fresh and its own, watched, and gone with the engine, whatever the
 * user's code has put there and whoever owns it.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../../shared/logger.js';
import { opening, removeFolder } from './closed_folders.js';
import { type EngineLaunch, helpAsEngine } from './engine_launch.js';
import { makePrivate } from './private_folder.js';

/** Of the folder in which they lie: the engine's user finds its own there and lists nothing. */
const PASSABLE = 0o710;
/** Of each, where engines have a user of their own: open to the group that it has in common with the daemon. */
const SHARED = 0o770;
const PRIVATE = 0o700;
const SCRATCH = /^scratch-\d+$/;
/** A file that went away while it was being looked at. */
const VANISHED = /: No such file or directory$/;

export interface ScratchOptions {
  readonly root: string;
  readonly launch: EngineLaunch;
  /** Of one engine's files together; undefined: no limit. */
  readonly maxBytes: number | undefined;
  /** Other folders in which only engines of this daemon leave files. */
  readonly alsoCleared: readonly string[];
  readonly log: Pick<Logger, 'warn'>;
}

export class ScratchFolders {
  readonly #options: ScratchOptions;

  /** Throws a ConfigError when the folder is not this user's. */
  constructor(options: ScratchOptions) {
    this.#options = options;
    makePrivate(options.root, 'engine.scratch_dir');
    if (options.launch.user !== undefined) chmodSync(options.root, PASSABLE);
  }

  create(start: number): string {
    const folder = this.folderOf(start);
    mkdirSync(folder, { mode: PRIVATE });
    if (this.#options.launch.user !== undefined) chmodSync(folder, SHARED);
    return folder;
  }

  folderOf(start: number): string {
    return join(this.#options.root, `scratch-${start}`);
  }

  /** Why the engine of this number may not go on, if it uses more than it may. What cannot be measured is too much. */
  async excess(start: number): Promise<string | undefined> {
    const { launch, maxBytes } = this.#options;
    if (maxBytes === undefined) return undefined;
    const args = ['-s', '-B1', '--', this.folderOf(start)];
    const { printed, complaints } = await helpAsEngine(launch, { program: 'du', args });
    const complaint = complaints.find((line) => !VANISHED.test(line));
    if (complaint !== undefined) return `its temporary files cannot be measured: ${complaint}`;
    const bytes = Number(printed.split('\t')[0]);
    return bytes > maxBytes ? `its temporary files take ${bytes} bytes; engine.scratch_max is ${maxBytes}` : undefined;
  }

  /** The engine of this number, and all that it started, is gone. */
  async remove(start: number): Promise<void> {
    await this.#removeFolder(this.folderOf(start));
    await this.#clearOthers();
  }

  /** What engines of this daemon, or of one before it, have left. None may be running. */
  async clear(): Promise<void> {
    const { root } = this.#options;
    for (const name of readdirSync(root).filter((one) => SCRATCH.test(one))) await this.#removeFolder(join(root, name));
    await this.#clearOthers();
  }

  /** Nothing is created any more. */
  async close(): Promise<void> {
    await this.clear();
    try {
      rmdirSync(this.#options.root);
    } catch {
      // It is the service manager's, or somebody has put something else there.
    }
  }

  async #removeFolder(folder: string): Promise<void> {
    const { launch, log } = this.#options;
    try {
      if (launch.user !== undefined && existsSync(folder)) await emptyAsEngine(launch, folder, []);
      await removeFolder(folder);
    } catch (error) {
      log.warn('temporary files of an engine were not removed', { folder, error: String(error) });
    }
  }

  /** Only what belongs to the engines' user. */
  async #clearOthers(): Promise<void> {
    const { launch, alsoCleared } = this.#options;
    if (launch.user === undefined) return;
    for (const folder of alsoCleared) await emptyAsEngine(launch, folder, ['-user', launch.user]);
  }
}

/** Folders that were closed to their owner are opened first. */
async function emptyAsEngine(launch: EngineLaunch, folder: string, tests: readonly string[]): Promise<void> {
  await helpAsEngine(launch, opening(folder));
  await helpAsEngine(launch, { program: 'find', args: [folder, '-mindepth', '1', ...tests, '-delete'] });
}
