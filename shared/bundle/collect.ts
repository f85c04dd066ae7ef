/** Finds the files of a folder that travel with a job. */
import { type Dirent, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join, sep } from 'node:path';
import { BundleError } from './bundle_error.js';
import { problemOfEntryName, refuseEntry, shownName } from './entry_name.js';
import { GitIgnore } from './git_ignore.js';
import { MAX_FILES, MAX_UNPACKED_BYTES } from './limits.js';

/** Somebody may have put a job file into a home folder: it is not searched to its end. */
const MAX_LOOKED_AT = 100_000;
const NAMED = 5;

export interface BundleFile {
  /** Relative, with slashes. */
  readonly name: string;
  readonly content: Buffer;
  readonly executable: boolean;
}

interface Found {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  readonly executable: boolean;
}

/** All files in the order of their names. Throws a BundleError when there are too many, or one cannot travel. */
export function collectFiles(folder: string): readonly BundleFile[] {
  try {
    return filesOf(folder);
  } catch (error) {
    // What the system says names the file: no permission, for example, or it has just gone.
    if (error instanceof Error && 'syscall' in error)
      throw new BundleError(`the code cannot be read: ${error.message}`);
    throw error;
  }
}

function filesOf(folder: string): readonly BundleFile[] {
  const search = new Search(realpathSync(folder));
  search.look(folder, '', GitIgnore.at(folder));
  const found = search.found.sort((left, right) => (left.name < right.name ? -1 : 1));
  refuseTooMuch(found);
  const files = found.map(({ name, path, executable }) => ({ name, content: readFileSync(path), executable }));
  // One of them may have grown since it was looked at.
  refuseTooMuch(files.map(({ name, content }) => ({ name, bytes: content.length })));
  return files;
}

class Search {
  readonly found: Found[] = [];
  #lookedAt = 0;

  /** `root` is the real path of the whole folder. */
  constructor(private readonly root: string) {}

  look(folder: string, prefix: string, ignored: GitIgnore): void {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      this.#lookedAt += 1;
      if (this.#lookedAt > MAX_LOOKED_AT) {
        throw new BundleError(`the folder of the job file has more than ${MAX_LOOKED_AT} entries; ${ADVICE}`);
      }
      this.#lookAt(entry, join(folder, entry.name), prefix + entry.name, ignored);
    }
  }

  #lookAt(entry: Dirent, path: string, name: string, ignored: GitIgnore): void {
    if (ignored.leavesOut(entry.isDirectory() ? `${name}/` : name)) return;
    const problem = problemOfEntryName(name);
    if (problem !== undefined) throw refuseEntry(name, problem);
    if (entry.isDirectory()) this.look(path, `${name}/`, ignored.below(path, `${name}/`));
    else if (entry.isFile()) this.#add(name, path);
    else if (entry.isSymbolicLink()) this.#addTarget(name, path);
    else throw refuseEntry(name, 'is neither a file nor a folder; put it in .gitignore or elsewhere');
  }

  /** A link becomes what it leads to: on another machine there is nothing else that it could lead to. */
  #addTarget(name: string, path: string): void {
    let target: string;
    try {
      target = realpathSync(path);
    } catch {
      throw refuseEntry(name, 'is a link that leads nowhere');
    }
    const advice = 'name big data by path or URL in params, and put the link in .gitignore';
    if (!target.startsWith(this.root === sep ? sep : this.root + sep)) {
      throw refuseEntry(name, `is a link that leads out of the folder of the job file; ${advice}`);
    }
    if (!statSync(target).isFile())
      throw refuseEntry(name, 'is a link to what is not a regular file; put it in .gitignore');
    this.#add(name, target);
  }

  #add(name: string, path: string): void {
    const { size, mode } = statSync(path);
    this.found.push({ name, path, bytes: size, executable: (mode & 0o100) !== 0 });
  }
}

const ADVICE =
  'only code travels with a job: name big data by path or URL, put what is not needed in .gitignore, or use --shared-folder';

function refuseTooMuch(files: readonly { readonly name: string; readonly bytes: number }[]): void {
  if (files.length > MAX_FILES) {
    throw new BundleError(`the folder of the job file has ${files.length} files, more than ${MAX_FILES}; ${ADVICE}`);
  }
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  if (bytes > MAX_UNPACKED_BYTES) throw tooLarge(files, bytes, MAX_UNPACKED_BYTES, '');
}

/** A file that is smaller than the largest by this factor is not worth naming beside it. */
const NAMED_WITHIN = 20;

/** Names the largest files, since those are what has to go. */
export function tooLarge(
  files: readonly { readonly name: string; readonly bytes: number }[],
  bytes: number,
  limit: number,
  how: string,
): BundleError {
  const most = Math.max(...files.map((file) => file.bytes));
  const largest = files
    .filter((file) => file.bytes * NAMED_WITHIN >= most)
    .sort((left, right) => right.bytes - left.bytes)
    .slice(0, NAMED);
  const named = largest.map((file) => `${shownName(file.name)} (${mebibytes(file.bytes)})`).join(', ');
  return new BundleError(
    `the folder of the job file has ${mebibytes(bytes)}${how}, more than ${mebibytes(limit)}; the largest files are ${named}; ${ADVICE}`,
  );
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
