import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { EngineProcess } from '../../../worker/io/engine_process.js';

const [, usual] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
afterEach(() => limitFiles(Number(usual)));

/** Of this process, from now on. */
function limitFiles(count: number): void {
  execFileSync('prlimit', [`--nofile=${count}:`, '--pid', String(process.pid)]);
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

function start(): EngineProcess {
  return new EngineProcess({
    ...{ python: 'true', gpu: 0, threads: 1, folder: tmpdir(), environment: {} },
    place: {
      launch: { user: undefined, fileMaxBytes: undefined },
      scratch: tmpdir(),
      group: undefined,
      modelFolder: undefined,
    },
    onEvent: () => undefined,
    onLines: () => undefined,
    onExit: () => undefined,
    unused: () => Promise.resolve(),
  });
}

/** With so many file descriptors left. */
function startWith(left: number): void {
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'));
  } catch {
    for (const fd of taken.splice(0, left)) closeSync(fd);
  }
  try {
    start();
  } finally {
    for (const fd of taken) closeSync(fd);
  }
}

it('an engine for which no file descriptors are left is not started, and leaves none open', async () => {
  limitFiles(openFiles() + 40);
  const before = openFiles();
  for (const left of [0, 1, 2, 3, 6]) expect(() => startWith(left)).toThrow(/memfd_create|no file descriptor left/);
  // The error of what was not started comes in the next turn.
  await delay(50);
  expect(openFiles()).toBe(before);
});
