/** A log file of bounded size: when it is full it becomes <name>.1, in the place of the one before. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';

const DEFAULT_MAX_BYTES = 16 * 1024 * 1024;
const ANYBODY_READS = 0o666;

export class RotatingLog {
  #fd: number | undefined;
  #bytes: number;

  constructor(
    readonly path: string,
    private readonly maxBytes = DEFAULT_MAX_BYTES,
    /** Of the file that is made, less the umask. */
    private readonly mode = ANYBODY_READS,
  ) {
    this.#fd = openSync(path, 'a', mode);
    this.#bytes = fstatSync(this.#fd).size;
  }

  /** Written at once, so that nothing waits in memory and the last words of a process are there when it is gone. */
  write(chunk: Uint8Array): void {
    if (this.#fd === undefined) return;
    if (this.#bytes > 0 && this.#bytes + chunk.length > this.maxBytes) {
      // If this fails, what is open stays so: a number that was closed may be somebody else's file.
      renameSync(this.path, `${this.path}.1`);
      const next = openSync(this.path, 'a', this.mode);
      closeSync(this.#fd);
      this.#fd = next;
      this.#bytes = 0;
    }
    writeSync(this.#fd, chunk);
    this.#bytes += chunk.length;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
