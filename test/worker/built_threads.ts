/** The tests start the daemon's threads from dist/ (Node 20 cannot start one from TypeScript): builds them when they are older than their source. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const repository = fileURLToPath(new URL('../../', import.meta.url));
const sources = [
  'worker/collective',
  'worker/checkpoint',
  'worker/io',
  'shared',
  'shared/identity',
  'shared/wire',
  'shared/checkpoint',
];
const lock = `${repository}node_modules/.lockstep_test_build`;
const LOCK_STALE_MS = 60_000;

/** Output keeps the time of its own build, source that of its last change. */
function isCurrent(): boolean {
  return sources.every((folder) =>
    readdirSync(`${repository}${folder}`)
      .filter((name) => name.endsWith('.ts'))
      .every((name) => {
        const output = `${repository}dist/${folder}/${name.replace(/ts$/, 'js')}`;
        return existsSync(output) && statSync(output).mtimeMs >= statSync(`${repository}${folder}/${name}`).mtimeMs;
      }),
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

/** Call before the first thread of a test file starts. */
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
