/** Free space of a folder, and how fast a file in it is written and synced. */
import { open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { within } from './deadline.js';

/** Three writes of 8 MiB; the best counts, because other programs write too. */
const WRITES = 3;
const WRITE_BYTES = 8 * 1024 * 1024;
const LIMIT_MS = 20_000;

export interface DiskFound {
  readonly folder: string;
  /** Why it cannot be written to; empty if it can. */
  readonly problem: string;
  readonly freeBytes: number;
  readonly bytesPerSecond: number;
}

export async function probeDisk(folder: string): Promise<DiskFound> {
  let freeBytes = 0;
  try {
    const { bavail, bsize } = await within(LIMIT_MS, `looking at ${folder}`, statfs(folder));
    freeBytes = bavail * bsize;
    const bytesPerSecond = await within(LIMIT_MS, `writing to ${folder}`, bestWrite(folder));
    return { folder, problem: '', freeBytes, bytesPerSecond };
  } catch (error) {
    return { folder, problem: error instanceof Error ? error.message : String(error), freeBytes, bytesPerSecond: 0 };
  }
}

async function bestWrite(folder: string): Promise<number> {
  const path = join(folder, `preflight-${process.pid}`);
  const bytes = Buffer.alloc(WRITE_BYTES, 'lockstep');
  let best = 0;
  try {
    for (let count = 0; count < WRITES; count++) {
      const startMs = performance.now();
      await writeSynced(path, bytes);
      best = Math.max(best, WRITE_BYTES / ((performance.now() - startMs) / 1000));
    }
    return best;
  } finally {
    await rm(path, { force: true });
  }
}

async function writeSynced(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(bytes);
    await file.datasync();
  } finally {
    await file.close();
  }
}
