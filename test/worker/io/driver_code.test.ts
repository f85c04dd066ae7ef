/** What becomes of a job whose code does not come. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { BundleError } from '../../../shared/bundle/bundle_error.js';
import { archiveOf } from '../../../shared/bundle/pack.js';
import { packedReference } from '../../../shared/bundle/reference.js';
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

const spec = parseJobSpec('version: 1\nname: x\ntask: a.py:A\nsteps: 2\nbatch: 4\nmicrobatches: 2');
const log = createLogger('worker', 'w1', 'error');
const sent: WorkerMessage[] = [];
let root = '';
let driver: Driver;
/** What the fetch of the code comes to. */
let come: (archive: Buffer) => void = () => {};
let fail: (error: Error) => void = () => {};

class RecordingSession extends SessionClient {
  override send(message: WorkerMessage): void {
    if (message.kind !== 'heartbeat') sent.push(message);
  }
}

beforeEach(() => {
  sent.length = 0;
  root = mkdtempSync(join(tmpdir(), 'lockstep-driver-'));
  const fetch = (_: string, signal: AbortSignal) =>
    new Promise<Buffer>((resolve, reject) => {
      come = resolve;
      fail = reject;
      signal.addEventListener('abort', () => reject(new Error('aborted')));
    });
  const launch = { user: undefined, fileMaxBytes: undefined };
  const scratch = new ScratchFolders({
    root: `${root}-scratch`,
    launch,
    maxBytes: undefined,
    alsoCleared: [],
    log,
  });
  driver = new Driver({
    state: initialState({
      worker: 'w1',
      incarnation: 'i',
      host: 'h',
      pid: 1,
      peerAddress: 'p:1',
      machine: { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 },
      measures: false,
    }),
    python: '/no/such/python',
    gpu: 0,
    environment: {},
    dataPlane: { port: 0, tell: () => {}, obeyed: async () => {}, close: async () => {} },
    checkpoints: { tell: () => {}, close: async () => {} },
    bounds: new EngineBounds({ launch, scratch, groups: undefined }),
    code: new JobCode({ folders: new CodeFolders(root), fetch, log }),
    measure: async () => undefined,
    onExit: () => {},
    log,
  });
  const nothing = { onOpened: () => {}, onMessage: () => {}, onClosed: () => {} };
  driver.connect(new RecordingSession(nothing, log));
  driver.dispatch({ kind: 'session_opened' });
  const load = {
    kind: 'load',
    term: 1,
    job: 'j',
    spec,
    bundle: packedReference('a'.repeat(64)),
    output: '/o',
    attempt: 1,
  } as const;
  driver.dispatch({ kind: 'coordinator_message', message: load });
  sent.length = 0;
});
afterEach(async () => {
  await driver.close();
  rmSync(root, { recursive: true, force: true });
});

const untilSaid = () => vi.waitFor(() => expect(sent).not.toEqual([]), { timeout: 10_000 });

it('unloaded while it is being fetched, it is let go at once', async () => {
  driver.dispatch({ kind: 'coordinator_message', message: { kind: 'unload', term: 1, job: 'j', reason: 'cancelled' } });
  await untilSaid();
  expect(sent).toEqual([{ kind: 'unloaded', job: 'j' }]);
  expect(readdirSync(root)).toEqual([]);
});

it('bad code is the fault of the job', async () => {
  fail(new BundleError('"../x" leads out'));
  await untilSaid();
  expect(sent).toMatchObject([{ kind: 'engineFailed', phase: 'code', failure: 'user', message: '"../x" leads out' }]);
});

it('an archive that is refused is the fault of the job, too, and leaves nothing', async () => {
  come(await archiveOf([{ name: '../x', content: Buffer.from(''), executable: false }]));
  await untilSaid();
  expect(sent).toMatchObject([{ kind: 'engineFailed', phase: 'code', failure: 'user' }]);
  expect(readdirSync(root)).toEqual([]);
});

it('code that cannot be reached is not', async () => {
  fail(new Error('no coordinator leads'));
  await untilSaid();
  expect(sent).toMatchObject([
    { kind: 'engineFailed', phase: 'code', failure: 'engine', message: 'no coordinator leads' },
  ]);
});

it('code that has come is gone again with its engine', async () => {
  come(await archiveOf([{ name: 'a.py', content: Buffer.from(''), executable: false }]));
  await untilSaid();
  // There is no such interpreter.
  expect(sent).toMatchObject([{ kind: 'engineFailed', phase: 'exit', failure: 'engine' }]);
  await vi.waitFor(() => expect(readdirSync(root)).toEqual([]));
});

it('a shared folder that is not there is named', async () => {
  driver.dispatch({ kind: 'coordinator_message', message: { kind: 'unload', term: 1, job: 'j', reason: 'cancelled' } });
  await untilSaid();
  sent.length = 0;
  const load = { kind: 'load', term: 1, job: 'k', spec, bundle: '/no/such/folder', output: '/o', attempt: 1 } as const;
  driver.dispatch({ kind: 'coordinator_message', message: load });
  await untilSaid();
  expect(sent).toMatchObject([
    {
      kind: 'engineFailed',
      phase: 'exit',
      message: expect.stringContaining('/no/such/folder, is not on this machine'),
    },
  ]);
});
