/**
 * Wall clocks that jump, by libfaketime (Debian package libfaketime), which gives each daemon a wall clock of its own; monotonic clocks
 * stay as they are, as the kernel's do. etcd's cannot be changed in this way: Go does not ask libc for the time.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FaultCluster } from './fault_cluster.js';
import { expectCalmEnd } from './outcome.js';
import { JOIN_MS, startRunning } from './scenario.js';

const LIBRARY = ['x86_64', 'aarch64']
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketime.so.1`)
  .find((path) => existsSync(path));

let clocks: string;
let cluster: FaultCluster;

function setClock(name: string, offset: string): void {
  writeFileSync(join(clocks, name), offset);
}

beforeAll(async () => {
  if (LIBRARY === undefined) throw new Error('libfaketime is missing; run: apt-get install libfaketime');
  clocks = mkdtempSync(join(tmpdir(), 'lockstep-clocks-'));
  const names = ['etcd', 'c1', 'c2', 'w1', 'w2', 'w3'];
  for (const name of names) setClock(name, '+0');
  const environmentOf = (name: string) => ({
    LD_PRELOAD: LIBRARY,
    FAKETIME_TIMESTAMP_FILE: join(clocks, name),
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  });
  ({ cluster } = await FaultCluster.startInNetwork({ workers: 3, coordinators: 2 }, { environmentOf }));
});
afterAll(async () => {
  await cluster?.stop();
  rmSync(clocks, { recursive: true, force: true });
});

it('row 21: wall clocks that jump an hour in either direction cost no step, no worker and no leader', async () => {
  const { job, steps, digest } = await startRunning(cluster, { steps: 400, microbatchMs: 15 });
  const leader = await cluster.leader();
  const jumps: readonly (readonly [string, string])[] = [
    ['w1', '+3600'],
    [leader.name, '-3600'],
    ['w2', '-3600'],
    ['w1', '-3600'],
    [leader.name, '+3600'],
  ];
  for (const [name, offset] of jumps) {
    setClock(name, offset);
    await delay(2500);
  }
  // The leader's clock did jump: its events say so.
  expect(Math.abs((job.events('stepCommitted').at(-1)?.timeMs ?? 0) - Date.now() - 3_600_000)).toBeLessThan(60_000);
  expect(job.events('workerLost')).toEqual([]);
  expect(job.events('generationStarted')).toHaveLength(1);
  expect((await cluster.leader()).term).toBe(leader.term);
  // And a change of membership with all those clocks works, too.
  const seen = job.heard.length;
  await cluster.signalEngine('w3', 'SIGKILL');
  await job.untilRoster(cluster.workers, JOIN_MS, seen);
  await expectCalmEnd(job, steps, digest);
});
