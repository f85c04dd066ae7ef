/** Puts the files of an archive into a folder. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readArchive } from './read_archive.js';

/** Who may read it besides the one who unpacks it, as far as the umask allows. Nobody else may change it. */
export type Readers = 'owner' | 'group';

const MODES = {
  owner: { folder: 0o700, file: 0o600, executable: 0o700 },
  group: { folder: 0o750, file: 0o640, executable: 0o750 },
} as const;

/**
 * `folder` must be empty, and nobody else's. Throws a BundleError before anything is written when something is wrong with the archive.
 */
export async function unpackInto(folder: string, archive: Uint8Array, readers: Readers = 'owner'): Promise<void> {
  const modes = MODES[readers];
  const files = await readArchive(archive);
  const made = new Set<string>();
  for (const { name, content, executable } of files) {
    const parent = dirname(name);
    if (!made.has(parent)) await mkdir(join(folder, parent), { recursive: true, mode: modes.folder });
    made.add(parent);
    // wx: nothing that is there already, a link for example, is followed or replaced.
    await writeFile(join(folder, name), content, { flag: 'wx', mode: executable ? modes.executable : modes.file });
  }
}
