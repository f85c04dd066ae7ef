/** The digest of a state as it lies in its file, without holding up the thread's other work. */
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';

/** Hashed in one turn of the event loop. */
const TURN_BYTES = 4 * 1024 * 1024;

/** sha256 of the file's first `bytes` bytes, in hexadecimal; undefined as soon as `isStopped` says so. */
export async function stateDigest(fd: number, bytes: number, isStopped: () => boolean): Promise<string | undefined> {
  const hash = createHash('sha256');
  const memory = Buffer.alloc(Math.min(TURN_BYTES, bytes));
  for (let at = 0; at < bytes; at += TURN_BYTES) {
    const length = readSync(fd, memory, 0, Math.min(TURN_BYTES, bytes - at), at);
    hash.update(memory.subarray(0, length));
    await setImmediate();
    if (isStopped()) return undefined;
  }
  return hash.digest('hex');
}
