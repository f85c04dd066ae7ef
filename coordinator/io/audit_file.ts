/**
 * The file of the audit log. Its lines are written in order, and beside the loop of the daemon, which a disk that hangs must not hold up. Those that wait
 * are bounded; while it is full, nothing is begun that would have to be in it.
 */
import { close, fstatSync, open, openSync, rename, write } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Logger } from '../../shared/logger.js';

const MOST_BYTES = 16 * 1024 * 1024;
const MOST_WAITING = 1_000;
/** What was begun before it was full gets its line as well. */
const MOST_KEPT = 2_000;
const MOST_AT_ONCE = 100;
const RETRY_MS = 1_000;
const SLOW_MS = 5_000;
/** For what waits when the daemon stops. */
const CLOSE_MS = 1_000;
const OWNER_ONLY = 0o600;

const openFile = promisify(open);
const closeFile = promisify(close);
const renameFile = promisify(rename);
const writeFile = promisify(write);

export class AuditFile {
  #fd: number;
  #bytes: number;
  readonly #lines: string[] = [];
  /** What of the lines that are being written is not there yet. */
  #rest = Buffer.alloc(0);
  #writing: Promise<void> | undefined;
  #problem = '';
  #lost = 0;

  /** Throws if the file cannot be opened. */
  constructor(
    private readonly path: string,
    private readonly log: Pick<Logger, 'error' | 'info'>,
    private readonly mostBytes = MOST_BYTES,
  ) {
    this.#fd = openSync(path, 'a', OWNER_ONLY);
    this.#bytes = fstatSync(this.#fd).size;
  }

  get isFull(): boolean {
    return this.#lines.length >= MOST_WAITING;
  }

  /** `isOwed`: of something that was begun when there was room. */
  add(line: string, isOwed: boolean): void {
    if (this.#lines.length >= (isOwed ? MOST_KEPT : MOST_WAITING)) {
      this.#lost += 1;
      return;
    }
    this.#lines.push(line);
    this.#writing ??= this.#writeAll();
  }

  /** What waits is written, if the disk lets it. */
  async close(): Promise<void> {
    await Promise.race([this.#writing, delay(CLOSE_MS)]);
  }

  async #writeAll(): Promise<void> {
    while (this.#lines.length > 0 || this.#rest.length > 0) {
      const slow = setTimeout(() => this.#fails('the disk does not answer'), SLOW_MS);
      try {
        await this.#writeSome();
        this.#works();
      } catch (error) {
        this.#fails(error instanceof Error ? error.message : String(error));
        await delay(RETRY_MS, undefined, { ref: false });
      } finally {
        clearTimeout(slow);
      }
    }
    this.#writing = undefined;
  }

  async #writeSome(): Promise<void> {
    if (this.#rest.length === 0) {
      const next = Buffer.from(this.#lines.slice(0, MOST_AT_ONCE).join(''));
      if (this.#bytes > 0 && this.#bytes + next.length > this.mostBytes) await this.#beginAnother();
      this.#lines.splice(0, MOST_AT_ONCE);
      this.#rest = next;
    }
    while (this.#rest.length > 0) {
      const { bytesWritten } = await writeFile(this.#fd, this.#rest);
      this.#bytes += bytesWritten;
      this.#rest = this.#rest.subarray(bytesWritten);
    }
  }

  /** The file that is full becomes <name>.1. If this fails it is tried again, and what is open stays so. */
  async #beginAnother(): Promise<void> {
    await renameFile(this.path, `${this.path}.1`).catch(ifNotMissing);
    const full = this.#fd;
    this.#fd = await openFile(this.path, 'a', OWNER_ONLY);
    this.#bytes = 0;
    // Last: a disk that fails at it must not have the new file take the place of the full one.
    await closeFile(full);
  }

  #fails(reason: string): void {
    if (this.#problem === '') this.log.error('the audit log cannot be written', { path: this.path, reason });
    this.#problem = reason;
  }

  #works(): void {
    if (this.#problem !== '') this.log.info('the audit log is written again', { path: this.path, lost: this.#lost });
    this.#problem = '';
    this.#lost = 0;
  }
}

/** A file that was renamed already, by a try that failed after that. */
function ifNotMissing(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
}
