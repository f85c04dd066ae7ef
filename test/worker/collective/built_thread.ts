/** The tests start the data plane's thread from dist/ (Node 20 cannot start one from TypeScript): builds it when it is older than its source. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const repository = fileURLToPath(new URL('../../../', import.meta.url));
const built = `${repository}dist/worker/collective/thread.js`;
const lock = `${repository}node_modules/.lockstep_test_build`;
const LOCK_STALE_MS = 60_000;

function isCurrent(): boolean {
  if (!existsSync(built)) return false;
  const builtAt = statSync(built).mtimeMs;
  const folders = ['worker/collective', 'worker/io', 'shared', 'shared/wire'].map((folder) => `${repository}${folder}`);
  return folders.every((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.ts'))
      .every((name) => statSync(`${folder}/${name}`).mtimeMs <= builtAt),
  );
}

function takeLock(): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch {
    if (existsSync(lock) && Date.now() - statSync(lock).mtimeMs > LOCK_STALE_MS) rmdirSync(lock);
    return false;
  }
}

function build(): void {
  try {
    execFileSync('node', [`${repository}node_modules/typescript/bin/tsc`, '-p', `${repository}tsconfig.json`]);
  } catch {
    // The type checker's verdict is another test's business; the output is written all the same.
  }
}

/** Call before the first data plane of a test file starts. */
export async function ensureBuilt(): Promise<void> {
  while (!isCurrent()) {
    if (!takeLock()) {
      await setTimeout(100);
      continue;
    }
    try {
      if (!isCurrent()) build();
    } finally {
      rmdirSync(lock);
    }
  }
}
