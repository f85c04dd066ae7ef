/** Real measurements of this machine: what they say must be possible, and nothing may be left of them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { probePeer } from '../../../worker/collective/probe_peer.js';
import { engineProblemOf, probeEngine } from '../../../worker/io/engine_probe.js';
import { measure } from '../../../worker/io/preflight.js';
import { timed } from '../../timed.js';
import { repository } from '../built_threads.js';
import { TestWorker } from '../collective/test_worker.js';

const python = readFileSync(join(repository, 'dist/.python'), 'utf8').trim();
const environment = { PATH: process.env['PATH'] ?? '', CUDA_VISIBLE_DEVICES: '' };
const self = { worker: 'w1', incarnation: 'i', peerAddress: '127.0.0.1:1' };
const never = new AbortController().signal;

let folder = '';
let peer: TestWorker;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-preflight-'));
  peer = await TestWorker.start('w2', true);
});
afterAll(async () => {
  await peer.plane.close();
  rmSync(folder, { recursive: true });
});

/** One that has ended and whose end nobody has looked at is not. */
function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

function script(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return path;
}

it('a pre-flight measures the engine, the disk and a peer, at a low priority', async () => {
  const code = mkdtempSync(join(folder, 'code-'));
  let niceness = 0;
  const onStarted = (pid: number): void => {
    const look = setInterval(() => {
      try {
        const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ');
        niceness = Math.max(niceness, Number(fields?.[16]));
      } catch {
        clearInterval(look);
      }
    }, 20);
  };
  const gone = { worker: 'w3', peerAddress: '127.0.0.1:1' };
  const found = await measure(
    { ...self, python, gpu: 0, environment, folder: code },
    { peers: () => [peer.peer, gone], signal: never, onStarted },
  );
  expect(found).toMatchObject({ engineProblem: '', device: 'cpu', deviceName: 'cpu', diskProblem: '' });
  expect(found?.torch).toMatch(/^\d+\.\d+/);
  expect(found?.engineStartMs).toBeGreaterThan(100);
  expect(found?.matmulGflops).toBeGreaterThan(0.1);
  expect(found?.freeMemoryBytes).toBeGreaterThan(2 ** 26);
  expect(found?.freeDiskBytes).toBeGreaterThan(0);
  expect(found?.diskBytesPerSecond).toBeGreaterThan(1e5);
  expect(found?.peers).toEqual([
    { worker: 'w2', sameHost: true, bytesPerSecond: expect.any(Number), problem: '' },
    { worker: 'w3', sameHost: true, bytesPerSecond: 0, problem: expect.stringMatching(/ECONNREFUSED/) },
  ]);
  expect(found?.peers[0]?.bytesPerSecond).toBeGreaterThan(1e6);
  expect(niceness).toBeGreaterThanOrEqual(10);
  expect(readdirSync(code)).toEqual([]);
});

describe('a measurement', () => {
  it('that is stopped leaves no process behind, and says nothing', async () => {
    const stop = new AbortController();
    let child = 0;
    const grandchild = join(folder, 'grandchild');
    const sleeper = script('sleeper', `sleep 60 & echo $! > ${grandchild}; wait`);
    const options = { ...self, python: sleeper, gpu: 0, environment, folder };
    const onStarted = (pid: number): void => {
      child = pid;
      setTimeout(() => stop.abort(), 500);
    };
    expect(await measure(options, { peers: () => [], signal: stop.signal, onStarted })).toBeUndefined();
    expect(isAlive(child)).toBe(false);
    const started = Number(readFileSync(grandchild, 'utf8'));
    expect(started).toBeGreaterThan(1);
    await vi.waitFor(() => expect(isAlive(started)).toBe(false));
  });

  it.each([
    ['an interpreter that is not there', '/no/such/python', /ENOENT/],
    ['a package that is broken', undefined, /libtorch.so: cannot open/],
  ])('of %s says what is wrong', async (_, path, problem) => {
    const broken = script('broken', `echo '{"python": "3", "memfd": ""}'; echo "libtorch.so: cannot open" >&2; exit 1`);
    const found = await probeEngine({ python: path ?? broken, gpu: 0, environment, signal: never });
    expect(engineProblemOf(found)).toMatch(problem);
    expect(found.startMs).toBe(0);
  });

  it('of a peer that accepts and never answers ends after five seconds', timed, async () => {
    const mute = createServer().listen(0, '127.0.0.1');
    await new Promise((listening) => mute.once('listening', listening));
    const address = mute.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const startMs = performance.now();
    await expect(probePeer({ address: `127.0.0.1:${port}`, ...self, signal: never })).rejects.toThrow(
      /ping|did not send/,
    );
    expect(performance.now() - startMs).toBeLessThan(7_000);
    mute.close();
  });
});
