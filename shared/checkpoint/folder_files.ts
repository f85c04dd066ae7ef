/** What a Directory does to names and folders. Every refusal becomes a StorageFailure that names the path. */
import { dirname } from 'node:path';
import { errorCode, fileFailure, StorageFailure } from './errors.js';
import type { FileOperations, FileStatus, OpenFile } from './file_operations.js';
import { isFileOfCheckpoint, MANIFEST_FILE } from './names.js';

/** Resolves to undefined where the system refuses with one of `codes`. */
export async function unless<T>(codes: readonly string[], doing: string, act: Promise<T>): Promise<T | undefined> {
  try {
    return await act;
  } catch (error) {
    if (codes.includes(errorCode(error) ?? '')) return undefined;
    throw fileFailure(doing, error);
  }
}

/** Undefined when nothing has that name. */
export function statusOf(files: FileOperations, path: string): Promise<FileStatus | undefined> {
  return unless(['ENOENT', 'ENOTDIR'], `look at ${path}`, files.status(path));
}

/** Makes the folder and those above it. */
export async function makeFolder(files: FileOperations, path: string): Promise<void> {
  try {
    await files.mkdir(path);
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return;
    if (errorCode(error) !== 'ENOENT' || dirname(path) === path) throw fileFailure(`make the folder ${path}`, error);
    await makeFolder(files, dirname(path));
    await unless(['EEXIST'], `make the folder ${path}`, files.mkdir(path));
  }
  await syncFolder(files, dirname(path));
}

/** What the folder's entries are now they are after a loss of power too. */
export async function syncFolder(files: FileOperations, path: string): Promise<void> {
  let folder: OpenFile | undefined;
  try {
    folder = await files.open(path, 'folder');
    await folder.sync();
  } catch (error) {
    // Some network file systems cannot sync a folder, and need not: there a rename is durable when it returns.
    if (errorCode(error) !== 'EINVAL') throw fileFailure(`sync the folder ${path}`, error);
  } finally {
    await folder?.close().catch(() => undefined);
  }
}

/** False when `from` is not there, or something that is not an empty folder is at `to`. */
export async function renamed(files: FileOperations, from: string, to: string): Promise<boolean> {
  const refusals = ['ENOENT', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR'];
  const result = await unless(
    refusals,
    `rename ${from} to ${to}`,
    files.rename(from, to).then(() => true),
  );
  return result === true;
}

/**
 * Deletes a folder with a checkpoint's files in it; links are deleted, never followed, and anything else stays. One that is not there
 * is no error.
 */
export async function deleteFolder(files: FileOperations, path: string): Promise<void> {
  if ((await statusOf(files, path))?.kind !== 'folder') return;
  const names = await unless(['ENOENT'], `list ${path}`, files.readdir(path));
  // The manifest first: without it the rest can never be taken for a checkpoint.
  const ours = (names ?? [])
    .filter(isFileOfCheckpoint)
    .sort((a, b) => Number(b === MANIFEST_FILE) - Number(a === MANIFEST_FILE));
  for (const name of ours) await deleteFile(files, `${path}/${name}`);
  try {
    await files.rmdir(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    if (errorCode(error) !== 'ENOTEMPTY') throw fileFailure(`remove the folder ${path}`, error);
    throw new StorageFailure(
      `cannot remove the folder ${path}: it holds files that are not a checkpoint's; move them away`,
    );
  }
}

export async function deleteFile(files: FileOperations, path: string): Promise<void> {
  await unless(['ENOENT'], `remove ${path}`, files.unlink(path));
}
