/** Packs a folder: the same content gives the same bytes, whenever and wherever it is packed. */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { type BundleFile, collectFiles, tooLarge } from './collect.js';
import { MAX_PACKED_BYTES } from './limits.js';
import { bytesOf } from './stream_bytes.js';

const gzipped = promisify(gzip);
const LEVEL = 9;
/** Seconds since 1970; tar knows no file without a time. */
const NO_TIME = new Date(0);
const FILE_MODE = 0o644;
const EXECUTABLE_MODE = 0o755;

export interface PackedBundle {
  readonly archive: Buffer;
  readonly sha256: string;
  /** Of the files, before packing. */
  readonly bytes: number;
  /** In the order of their names. */
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
}

/** Throws a BundleError when the folder is too large, or something in it cannot travel. */
export async function packFolder(folder: string): Promise<PackedBundle> {
  const content = collectFiles(folder);
  const archive = await archiveOf(content);
  const files = content.map((file) => ({ name: file.name, bytes: file.content.length }));
  if (archive.length > MAX_PACKED_BYTES) throw tooLarge(files, archive.length, MAX_PACKED_BYTES, ' when packed');
  return { archive, sha256: sha256Of(archive), bytes: files.reduce((sum, { bytes }) => sum + bytes, 0), files };
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** tar and gzip, without times, owners or anything else of the machine. */
export async function archiveOf(files: readonly BundleFile[]): Promise<Buffer> {
  const tar = pack();
  const bytes = bytesOf(tar);
  for (const { name, content, executable } of files) {
    tar.entry({ name, mode: executable ? EXECUTABLE_MODE : FILE_MODE, mtime: NO_TIME, type: 'file' }, content);
  }
  tar.finalize();
  return gzipped(await bytes, { level: LEVEL });
}
