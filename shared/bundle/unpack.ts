/** Puts the files of an archive into a folder. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readArchive } from './read_archive.js';

const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
const EXECUTABLE_MODE = 0o700;

/**
 * `folder` must be empty, and nobody else's. Throws a BundleError before anything is written when something is wrong with the archive.
 */
export async function unpackInto(folder: string, archive: Uint8Array): Promise<void> {
  const files = await readArchive(archive);
  const made = new Set<string>();
  for (const { name, content, executable } of files) {
    const parent = dirname(name);
    if (!made.has(parent)) await mkdir(join(folder, parent), { recursive: true, mode: FOLDER_MODE });
    made.add(parent);
    // wx: nothing that is there already, a link for example, is followed or replaced.
    await writeFile(join(folder, name), content, { flag: 'wx', mode: executable ? EXECUTABLE_MODE : FILE_MODE });
  }
}
