/** `lockstep up` with a real etcd and the real daemons. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { z } from 'zod';

const lockstep = fileURLToPath(new URL('../../bin/lockstep', import.meta.url));
const ready = z.object({
  event: z.literal('ready'),
  api: z.string(),
  dashboard: z.url(),
  etcd: z.string(),
  pids: z.object({ etcd: z.number(), coordinators: z.number().array(), workers: z.record(z.string(), z.number()) }),
});
const node = z.object({ worker: z.string(), pid: z.number() });

let folder = '';
let launcher: ChildProcess | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-up-'));
});
afterEach(async () => {
  if (launcher !== undefined && launcher.exitCode === null && launcher.signalCode === null) {
    launcher.kill('SIGINT');
    await once(launcher, 'exit');
  }
  rmSync(folder, { recursive: true, force: true });
});

async function up(...args: readonly string[]) {
  const child = spawn(process.execPath, [lockstep, 'up', '--json', '--dir', folder, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  launcher = child;
  const [line] = await once(createInterface(child.stdout), 'line');
  return { child, ...ready.parse(JSON.parse(String(line))) };
}

/** Processes that were started with a path of this cluster. */
function processesOfCluster(): readonly number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(folder);
      } catch {
        return false;
      }
    });
}

async function until(condition: () => boolean | Promise<boolean>, limitMs = 20_000): Promise<void> {
  const untilMs = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > untilMs) throw new Error(`not so within ${limitMs} ms`);
    await delay(50);
  }
}

async function nodes(api: string) {
  const { stdout } = await promisify(execFile)(process.execPath, [lockstep, 'nodes', '--json', '--server', api]);
  return stdout
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => node.parse(JSON.parse(line)));
}

it('is ready when all daemons are, starts again what dies, and leaves nothing behind at Ctrl-C', async () => {
  const { child, api, pids } = await up('--workers', '2', '--coordinators', '2');
  expect(Object.keys(pids.workers)).toEqual(['w1', 'w2']);
  expect(pids.coordinators).toHaveLength(2);
  expect(processesOfCluster()).toEqual(
    [child.pid, pids.etcd, ...pids.coordinators, ...Object.values(pids.workers)].sort((a, b) => Number(a) - Number(b)),
  );
  await until(async () => (await nodes(api)).length === 2);

  const killed = pids.workers['w1'] ?? 0;
  process.kill(killed, 'SIGKILL');
  await until(async () => (await nodes(api)).some((one) => one.worker === 'w1' && one.pid !== killed));

  child.kill('SIGINT');
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  expect(processesOfCluster()).toEqual([]);
});

it('leaves nothing behind when the launcher is killed', async () => {
  const { child } = await up('--workers', '1');
  child.kill('SIGKILL');
  await until(() => processesOfCluster().length === 0, 5000);
});

it('can be ended while it starts', async () => {
  const child = spawn(process.execPath, [lockstep, 'up', '--dir', folder], { stdio: 'ignore' });
  launcher = child;
  await until(() => processesOfCluster().length > 1);
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  expect(code).toBe(130);
  expect(processesOfCluster()).toEqual([]);
});

it('leaves no temporary files behind when it is told to end twice', async () => {
  const temporary = join(folder, 'temporary');
  mkdirSync(temporary);
  const child = spawn(process.execPath, [lockstep, 'up', '--json', '--workers', '1', '--dir', folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, TMPDIR: temporary },
  });
  launcher = child;
  await once(createInterface(child.stdout), 'line');
  const found = readdirSync(temporary);
  child.kill('SIGINT');
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  expect(code).toBe(130);
  expect(found.filter((name) => name.startsWith('lockstep-'))).toHaveLength(1);
  expect(readdirSync(temporary)).toEqual([]);
});

it('ends, with all that it has started, when one of the daemons cannot be started', async () => {
  mkdirSync(join(folder, 'logs', 'w2.log'), { recursive: true });
  const child = spawn(process.execPath, [lockstep, 'up', '--workers', '2', '--dir', folder], { stdio: 'ignore' });
  launcher = child;
  const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(20_000) });
  expect(code).not.toBe(0);
  expect(processesOfCluster()).toEqual([]);
});
