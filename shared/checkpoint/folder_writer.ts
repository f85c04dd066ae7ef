/** Writes a file of a draft in a folder. */
import { dirname } from 'node:path';
import { fileFailure, StorageFailure } from './errors.js';
import type { FileOperations, OpenFile } from './file_operations.js';
import { syncFolder } from './folder_files.js';
import type { FileWriter } from './storage.js';

/** Write-out of what is written so far is started after so many bytes, so that the last sync has little left to do. */
const WRITE_OUT_BYTES = 32 * 2 ** 20;

/** Writes under a temporary name outside the folder it is for, and moves in when it is durable: nobody ever meets half of it there. */
export class FolderFileWriter implements FileWriter {
  /** Where the next piece goes. */
  #at = 0;
  /** Bytes of the pieces that are written. */
  #written = 0;
  #writtenOut = 0;
  #writingOut: Promise<unknown> | undefined;
  #open = true;

  private constructor(
    private readonly files: FileOperations,
    private readonly file: OpenFile,
    private readonly temporary: string,
    private readonly final: string,
  ) {}

  static async create(files: FileOperations, temporary: string, final: string): Promise<FolderFileWriter> {
    try {
      return new FolderFileWriter(files, await files.open(temporary, 'create'), temporary, final);
    } catch (error) {
      throw fileFailure(`create ${temporary}`, error);
    }
  }

  async write(piece: Buffer): Promise<void> {
    const at = this.#at;
    this.#at += piece.length;
    for (let done = 0; done < piece.length; ) {
      const count = await this.#do(`write ${this.temporary}`, this.file.write(piece.subarray(done), at + done));
      // A file system that takes nothing and reports nothing would keep us here for ever.
      if (count === 0) throw new StorageFailure(`cannot write ${this.temporary}: the file system takes no bytes`);
      done += count;
    }
    this.#written += piece.length;
    await this.#writeOut();
  }

  async finish(): Promise<void> {
    await this.#do(`sync ${this.temporary}`, this.#writingOut ?? Promise.resolve());
    await this.#do(`sync ${this.temporary}`, this.file.sync());
    this.#open = false;
    await this.#do(`close ${this.temporary}`, this.file.close());
    await this.#do(`rename ${this.temporary} to ${this.final}`, this.files.rename(this.temporary, this.final));
    await syncFolder(this.files, dirname(this.final));
  }

  async abandon(): Promise<void> {
    await this.#writingOut?.catch(() => undefined);
    if (this.#open) await this.file.close().catch(() => undefined);
    this.#open = false;
    await this.files.unlink(this.temporary).catch(() => undefined);
  }

  /** At most one at a time; its failure is met at the next write or at the end. */
  async #writeOut(): Promise<void> {
    if (this.#written - this.#writtenOut < WRITE_OUT_BYTES) return;
    this.#writtenOut = this.#written;
    await this.#do(`sync ${this.temporary}`, this.#writingOut ?? Promise.resolve());
    this.#writingOut = this.file.syncData();
    this.#writingOut.catch(() => undefined);
  }

  async #do<T>(doing: string, act: Promise<T>): Promise<T> {
    try {
      return await act;
    } catch (error) {
      throw fileFailure(doing, error);
    }
  }
}
