/** A real driver and real processes that are engines in nothing but name. */
import { chmodSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { parseJobSpec } from '../../../shared/job_spec.js';
import { createLogger } from '../../../shared/logger.js';
import type { WorkerMessage } from '../../../shared/wire/session.js';
import { initialState } from '../../../worker/core/state.js';
import { CodeFolders } from '../../../worker/io/code_folders.js';
import { Driver } from '../../../worker/io/driver.js';
import { EngineBounds } from '../../../worker/io/engine_bounds.js';
import { JobCode } from '../../../worker/io/job_code.js';
import { ScratchFolders } from '../../../worker/io/scratch_folders.js';
import { SessionClient } from '../../../worker/io/session_client.js';

/** What comes before the code of each: without site packages it starts in 20 ms. */
const PRELUDE = `#!/usr/bin/python3 -SE
import json, os, sys, time
write = lambda line: os.write(4, line)
say = lambda event, **fields: write(json.dumps({"event": event, **fields}).encode() + b"\\n")
start = lambda: say("started", pid=os.getpid(), torch="2", python="3", device="cpu", fingerprint="0" * 64)
vector = lambda bytes: dict(vector_bytes=bytes, bf16_bytes=0, parameters=1, dataset_length=9, dataset_digest="0" * 64)
`;
const spec = parseJobSpec('version: 1\nname: x\ntask: a.py:A\nsteps: 2\nbatch: 4\nmicrobatches: 2');
const log = createLogger('worker', 'w1', 'error');
const sent: WorkerMessage[] = [];
let root = '';
let driver: Driver;
/** The data plane has done what it was told. */
let obeyed = Promise.resolve();

class RecordingSession extends SessionClient {
  override send(message: WorkerMessage): void {
    if (message.kind !== 'heartbeat') sent.push(message);
  }
}

beforeEach(() => {
  sent.length = 0;
  obeyed = Promise.resolve();
  root = mkdtempSync(join(tmpdir(), 'lockstep-engine-'));
  const launch = { user: undefined, fileMaxBytes: undefined };
  const scratch = new ScratchFolders({ root: `${root}-scratch`, launch, maxBytes: undefined, alsoCleared: [], log });
  const machine = { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 };
  const self = { worker: 'w1', incarnation: 'i', host: 'h', pid: 1, peerAddress: 'p:1', machine, measures: false };
  driver = new Driver({
    state: initialState(self),
    python: join(root, 'python'),
    gpu: 0,
    environment: {},
    dataPlane: { port: 0, tell: () => {}, obeyed: () => obeyed, close: async () => {} },
    checkpoints: { tell: () => {}, close: async () => {} },
    bounds: new EngineBounds({ launch, scratch, groups: undefined }),
    code: new JobCode({ folders: new CodeFolders(root), fetch: () => Promise.reject(new Error('no code')), log }),
    measure: async () => undefined,
    onExit: () => {},
    log,
  });
  driver.connect(new RecordingSession({ onOpened: () => {}, onMessage: () => {}, onClosed: () => {} }, log));
  driver.dispatch({ kind: 'session_opened' });
  sent.length = 0;
});
afterEach(async () => {
  await driver.close();
  for (const folder of [root, `${root}-scratch`]) rmSync(folder, { recursive: true, force: true });
});

function run(code: string, attempt: number): void {
  writeFileSync(join(root, 'python'), PRELUDE + code);
  chmodSync(join(root, 'python'), 0o755);
  const load = { kind: 'load', term: 1, job: 'j', spec, bundle: root, output: '/o', attempt } as const;
  driver.dispatch({ kind: 'coordinator_message', message: load });
}

it.each<[string, string, string | RegExp]>([
  ['garbage', 'write(b"\\xff\\x00{{{\\n")\ntime.sleep(60)', /^the engine said something that cannot be understood: /],
  ['half a line, and is gone', 'write(b\'{"event":"started"\')', /cannot be understood: SyntaxError/],
  ['a line without an end', 'while True: write(b"x" * 65536)', /cannot be understood: SyntaxError/],
  ['deep levels', 'write(b"[" * 5_000_000 + b"\\n")\ntime.sleep(60)', /cannot be understood/],
  [
    'an event that there is none of',
    'say("reboot")\ntime.sleep(60)',
    /cannot be understood: event: Invalid discriminator value/,
  ],
  [
    'a vector longer than any',
    'start()\nsay("loaded", id=1, **vector(2**60))\ntime.sleep(60)',
    /vector_bytes: Too big/,
  ],
  [
    'a vector longer than the memory',
    'start()\nsay("loaded", id=1, **vector(2**40))\ntime.sleep(60)',
    /^the engine said loaded: its gradients need 3298534883328 bytes to be exchanged, and this machine has 1073741824$/,
  ],
  [
    'the answer to another command',
    'start()\nsay("loaded", id=7, **vector(64))\ntime.sleep(60)',
    'the engine said loaded to command 7, not to 1',
  ],
  ['what nobody asked', 'say("computed", id=1, step=0)\ntime.sleep(60)', 'the engine said computed: nothing was asked'],
  ['its start for ever', 'while True: start()', 'the engine said started: it has started already'],
  [
    'a state that is not there',
    'start()\nsay("state_exported", id=1, bytes=4096, sha256="0" * 64)\ntime.sleep(60)',
    'the engine said state_exported of 4096 bytes in a memory of 0',
  ],
  [
    'too many metrics',
    'start()\nsay("evaluated", id=1, metrics={str(i): 1 for i in range(257)})\ntime.sleep(60)',
    /metrics: more than 256 metrics/,
  ],
  [
    'that it took longer than there is time',
    'start()\nsay("snapshot_taken", id=1, bytes=0, copy_ms=1e300)\ntime.sleep(60)',
    /copy_ms: Too big/,
  ],
  ['nothing more', 'start()\nos.close(4)\ntime.sleep(60)', 'the engine has closed its control pipe'],
  [
    'that the memory cannot be cut off',
    'os.ftruncate(5, 4096)\ntry: os.ftruncate(5, 0)\nexcept OSError as error: say("failed", phase="x", kind="user", message=str(error), traceback="")\ntime.sleep(60)',
    '[Errno 1] Operation not permitted',
  ],
])('an engine that says %s is ended with a reason, and the next one starts', async (_what, code, reason) => {
  run(code, 1);
  await vi.waitFor(() => expect(sent).not.toEqual([]), { timeout: 10_000, interval: 5 });
  expect(sent).toEqual([expect.objectContaining({ kind: 'engineFailed', engineStart: 1 })]);
  expect(sent[0]).toHaveProperty('message', typeof reason === 'string' ? reason : expect.stringMatching(reason));
  await vi.waitFor(() => expect(driver.hasEngine(1)).toBe(false), { timeout: 5_000, interval: 5 });
  run('say("failed", phase="x", kind="user", message="the next one", traceback="")\ntime.sleep(60)', 2);
  await vi.waitFor(() => expect(sent).toHaveLength(2), { timeout: 10_000, interval: 5 });
  expect(sent[1]).toMatchObject({ kind: 'engineFailed', message: 'the next one', engineStart: 2 });
});

it('what was printed without the end of a line just before a failure is not lost', async () => {
  driver.dispatch({
    kind: 'coordinator_message',
    message: { kind: 'welcome', term: 1, coordinator: 'c1', heartbeatMs: 500 },
  });
  const fail = 'say("failed", id=1, phase="loss", kind="user", message="m", traceback="")';
  run(`start()\nos.write(1, b"whole\\nhalf")\nos.write(2, b"other half")\n${fail}\ntime.sleep(60)`, 1);
  await vi.waitFor(() => expect(sent.map(({ kind }) => kind)).toContain('engineFailed'), { timeout: 10_000 });
  const printed = () =>
    sent.flatMap((message) => (message.kind === 'logLines' ? message.lines.map(({ text }) => text) : []));
  await vi.waitFor(() => expect(printed().toSorted()).toEqual(['half', 'other half', 'whole']));
});

/** Of the memory of engines that this process has open. */
function openMemories(): number {
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // That of the listing itself.
    }
  });
  return targets.filter((target) => /^\/memfd:lockstep-(exchange|state|snapshot) /.test(target)).length;
}

it('the memory of an engine that has died is closed when the data plane uses it no more, and not before', async () => {
  const before = openMemories();
  let letGo: () => void = () => {};
  obeyed = new Promise((resolve) => {
    letGo = resolve;
  });
  run('start()\nos.kill(os.getpid(), 9)', 1);
  await vi.waitFor(() => expect(sent).not.toEqual([]), { timeout: 10_000, interval: 5 });
  expect(driver.hasEngine(1)).toBe(false);
  await new Promise((resolve) => setImmediate(resolve));
  expect(openMemories()).toBe(before + 3);
  letGo();
  await vi.waitFor(() => expect(openMemories()).toBe(before), { timeout: 5_000, interval: 5 });
});
