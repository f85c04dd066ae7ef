/** Removing what the user's code has left, also folders that it has closed to their owner, as a copy of a read-only one is. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { type Command, helpAsEngine } from './engine_launch.js';

const ALL = { recursive: true, force: true, maxRetries: 3 } as const;
const OPENING_MS = 60_000;
const THIS_USER = { user: undefined };

/** Links are not followed. */
export function opening(folder: string): Command {
  return { program: 'chmod', args: ['-R', 'u+rwX', '--', folder] };
}

export async function removeFolder(folder: string): Promise<void> {
  try {
    await rm(folder, ALL);
  } catch {
    await helpAsEngine(THIS_USER, opening(folder));
    await rm(folder, ALL);
  }
}

export function removeFolderNow(folder: string): void {
  try {
    rmSync(folder, ALL);
  } catch {
    const { program, args } = opening(folder);
    execFileSync(program, args, { timeout: OPENING_MS, stdio: 'ignore' });
    rmSync(folder, ALL);
  }
}
