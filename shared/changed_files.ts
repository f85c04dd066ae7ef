/** Files that are read again when they have changed. What is wrong with them then changes nothing, and is said once. */
import { statSync } from 'node:fs';

/** How often whoever uses such files looks. */
export const LOOK_MS = 2_000;

export interface ChangedFilesOptions<T> {
  readonly paths: readonly string[];
  /** Throws if they are no good. */
  readonly read: () => T | Promise<T>;
  readonly onRead: (value: T) => void;
  /** Not again while the reason is the same. */
  readonly onRefused: (reason: string) => void;
}

export class ChangedFiles<T> {
  readonly #options: ChangedFilesOptions<T>;
  #seen: string;
  /** Why what is in the files now is not used; empty if it is. */
  #problem = '';
  #looking = false;

  /** Before they are read for the first time, so that no change after that is missed. */
  constructor(options: ChangedFilesOptions<T>) {
    this.#options = options;
    this.#seen = stampsOf(options.paths);
  }

  /** Files that are no good are read at every look: a certificate may only be too early. */
  async look(): Promise<void> {
    const seen = stampsOf(this.#options.paths);
    if (this.#looking || (seen === this.#seen && this.#problem === '')) return;
    this.#looking = true;
    try {
      const value = await this.#options.read();
      this.#problem = '';
      this.#options.onRead(value);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (reason !== this.#problem) this.#options.onRefused(reason);
      this.#problem = reason;
    } finally {
      this.#seen = seen;
      this.#looking = false;
    }
  }
}

/** Changes when one of the files is written or replaced, also by a link that leads elsewhere. */
function stampsOf(paths: readonly string[]): string {
  return paths.map(stampOf).join(' ');
}

function stampOf(path: string): string {
  try {
    const { ino, mtimeMs, size } = statSync(path);
    return `${ino}:${mtimeMs}:${size}`;
  } catch {
    return 'missing';
  }
}
