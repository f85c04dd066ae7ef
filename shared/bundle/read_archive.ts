/** Reads an archive that may come from anyone: all of it is checked before anything of it is used. */
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { BundleError } from './bundle_error.js';
import type { BundleFile } from './collect.js';
import { problemOfEntryName, refuseEntry } from './entry_name.js';
import { MAX_FILES, MAX_UNPACKED_BYTES } from './limits.js';
import { bytesOf } from './stream_bytes.js';

const gunzipped = promisify(gunzip);
/** Of headers and padding: three blocks a file, and its long name. */
const MAX_TAR_BYTES = MAX_UNPACKED_BYTES + MAX_FILES * 4096;
const EXECUTABLE = 0o100;

/** The files in the order in which they were packed. Throws a BundleError that names the entry. */
export async function readArchive(archive: Uint8Array): Promise<readonly BundleFile[]> {
  const tar = await unzipped(archive);
  const reader = extract();
  reader.end(tar);
  const checked = new CheckedFiles();
  try {
    for await (const entry of reader) {
      const { name, type, mode, size } = entry.header;
      checked.admit(name, String(type), size);
      const content = await bytesOf(entry);
      checked.files.push({ name, content, executable: (mode & EXECUTABLE) !== 0 });
    }
  } catch (error) {
    if (error instanceof BundleError) throw error;
    throw new BundleError(`the archive is damaged: ${error instanceof Error ? error.message : String(error)}`);
  }
  return checked.files;
}

async function unzipped(archive: Uint8Array): Promise<Buffer> {
  try {
    return await gunzipped(archive, { maxOutputLength: MAX_TAR_BYTES });
  } catch (error) {
    if (error instanceof RangeError) {
      throw new BundleError(`the archive has more than ${MAX_UNPACKED_BYTES / 1024 / 1024} MiB when unpacked`);
    }
    throw new BundleError(`the archive is damaged: ${error instanceof Error ? error.message : String(error)}`);
  }
}

class CheckedFiles {
  readonly files: BundleFile[] = [];
  readonly #names = new Set<string>();
  readonly #folders = new Set<string>();
  #bytes = 0;

  /** Throws if the entry may not be there. */
  admit(name: string, type: string, size: number): void {
    const problem = problemOfEntryName(name);
    if (problem !== undefined) throw refuseEntry(name, problem);
    if (type !== 'file') throw refuseEntry(name, `is a ${type}; an archive of code has files only`);
    if (this.files.length >= MAX_FILES) throw refuseEntry(name, `is one more than ${MAX_FILES} files`);
    this.#bytes += size;
    if (this.#bytes > MAX_UNPACKED_BYTES) {
      throw refuseEntry(name, `brings the archive to more than ${MAX_UNPACKED_BYTES / 1024 / 1024} MiB`);
    }
    this.#take(name);
  }

  #take(name: string): void {
    if (this.#names.has(name)) throw refuseEntry(name, 'is in the archive twice');
    if (this.#folders.has(name)) throw refuseEntry(name, 'is a file, and a folder as well');
    this.#names.add(name);
    for (let slash = name.indexOf('/'); slash >= 0; slash = name.indexOf('/', slash + 1)) {
      const folder = name.slice(0, slash);
      if (this.#names.has(folder)) throw refuseEntry(name, `lies in ${JSON.stringify(folder)}, which is a file`);
      this.#folders.add(folder);
    }
  }
}
