import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type ProcessExit, SupervisedProcess } from '../../cli/supervised_process.js';

let folder = '';
let one: SupervisedProcess | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-process-'));
});
afterEach(async () => {
  await one?.stop(0);
  rmSync(folder, { recursive: true });
});

const logPath = (): string => join(folder, 'x.log');

function supervise(script: string, exits: ProcessExit[] = []): SupervisedProcess {
  one = new SupervisedProcess({
    ...{ name: 'x', command: 'sh', args: ['-c', script], environment: process.env, logPath: logPath() },
    onExit: (exit) => exits.push(exit),
  });
  return one;
}

async function until(condition: () => boolean): Promise<void> {
  const untilMs = performance.now() + 10_000;
  while (!condition() && performance.now() < untilMs) await delay(20);
  expect(condition()).toBe(true);
}

it('a process that dies is started again, with a pause that grows', async () => {
  const exits: ProcessExit[] = [];
  const startedMs = performance.now();
  const child = supervise('echo hello; exit 3', exits);
  await until(() => exits.length === 3);
  expect(performance.now() - startedMs).toBeGreaterThan(590);
  expect(exits[0]).toMatchObject({ code: 3, signal: null, expected: false, givenUp: false });
  expect(new Set(exits.map((exit) => exit.pid)).size).toBe(3);
  expect(child.quickExits).toBe(3);
  expect(readFileSync(logPath(), 'utf8')).toMatch(/^(hello\n)+$/);
});

it('a process with a bad configuration is not', async () => {
  const exits: ProcessExit[] = [];
  const child = supervise('exit 78', exits);
  await until(() => exits.length === 1);
  await delay(400);
  expect(exits).toMatchObject([{ code: 78, givenUp: true }]);
  expect(child.pid).toBe(0);
});

it('a process whose log cannot be written goes on without it', async () => {
  symlinkSync('/dev/full', logPath());
  const exits: ProcessExit[] = [];
  supervise('echo hello; exit 78', exits);
  await until(() => exits.length === 1);
  // What it printed may be read after that.
  await delay(100);
  expect(exits).toMatchObject([{ code: 78 }]);
});

it('a process that ignores SIGTERM is killed, with all of its group', async () => {
  const child = supervise('trap "" TERM; sleep 1234 & echo $!; wait; sleep 1234');
  await until(() => /^\d+\n/.test(readFileSync(logPath(), 'utf8')));
  const grandchild = Number(readFileSync(logPath(), 'utf8'));
  await child.stop(100);
  await until(() => !isAlive(grandchild));
});

function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
