/** Reads a file of a checkpoint in a folder. */
import { DamagedCheckpoint, errorCode, fileFailure } from './errors.js';
import type { FileOperations, OpenFile } from './file_operations.js';
import type { FileReader } from './storage.js';

/** Opens a regular file; never waits for a FIFO, follows no link, reads no device. */
export async function openReader(files: FileOperations, path: string): Promise<FileReader | undefined> {
  const refused = new Map([
    ['ELOOP', 'is a link; a checkpoint has regular files only'],
    ['ENXIO', 'is not a regular file'],
    ['ENODEV', 'is not a regular file'],
  ]);
  let file: OpenFile | undefined;
  try {
    file = await files.open(path, 'read');
    const status = await file.status();
    if (status.kind !== 'file') throw new DamagedCheckpoint(path, 'is not a regular file');
    return new FolderFileReader(path, file, status.bytes);
  } catch (error) {
    await file?.close().catch(() => undefined);
    if (error instanceof DamagedCheckpoint) throw error;
    const code = errorCode(error) ?? '';
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    const problem = refused.get(code);
    throw problem === undefined ? fileFailure(`open ${path}`, error) : new DamagedCheckpoint(path, problem);
  }
}

class FolderFileReader implements FileReader {
  constructor(
    readonly path: string,
    private readonly file: OpenFile,
    readonly bytes: number,
  ) {}

  async read(target: Buffer, at: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const count = await this.#readSome(target.subarray(done), at + done);
      if (count === 0) throw new DamagedCheckpoint(this.path, `ends at byte ${at + done}, before it should`);
      done += count;
    }
  }

  async close(): Promise<void> {
    await this.file.close().catch(() => undefined);
  }

  async #readSome(target: Buffer, at: number): Promise<number> {
    try {
      return await this.file.read(target, at);
    } catch (error) {
      throw fileFailure(`read ${this.path}`, error);
    }
  }
}
