import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MemoryFile } from '../../../worker/io/memory_file.js';
import { timed } from '../../timed.js';
import { repository } from '../built_threads.js';
import { FaultyProxy } from './faulty_proxy.js';
import { stateImage } from './state_image.js';
import { bitsOf, Cluster, Gradients, placementsFor, reduceOn, type TestWorker } from './test_worker.js';

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start(3);
});
afterAll(() => cluster.close());

function three(workers: readonly TestWorker[]): readonly [TestWorker, TestWorker, TestWorker] {
  const [first, second, third] = workers;
  if (first === undefined || second === undefined || third === undefined) throw new Error('three workers are needed');
  return [first, second, third];
}

describe('a faulty link', () => {
  it.each([1_000_000, 2_222_222, 3_456_789])(
    'has the chunk pulled again whose bit %i was flipped, with the same result',
    async (flipAt) => {
      const shape = { elements: 1_200_000, microbatches: 2 };
      const [first, second] = three(cluster.open(3, shape));
      const proxy = await FaultyProxy.start(second.plane.port);
      const viaProxy = { ...second.peer, peerAddress: `127.0.0.1:${proxy.port}` };
      proxy.flipAfter(flipAt);
      first.startGeneration(1, [first.peer, viaProxy]);
      second.startGeneration(1, [first.peer, second.peer]);
      const gradients = new Gradients(shape, flipAt);
      await reduceOn([first, second], 0, placementsFor(2, [1, 1]), gradients);
      expect(proxy.flips).toBe(1);
      expect(bitsOf(first.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
      expect(bitsOf(second.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
      expect(first.events.filter(({ kind }) => kind === 'peer_failed')).toEqual([]);
      await proxy.close();
    },
  );

  it('that resets its connections in the middle of a reduce heals without a report', async () => {
    const shape = { elements: 1_200_000, microbatches: 2 };
    const [first, second] = three(cluster.open(3, shape));
    const proxy = await FaultyProxy.start(second.plane.port);
    first.startGeneration(1, [first.peer, { ...second.peer, peerAddress: `127.0.0.1:${proxy.port}` }]);
    second.startGeneration(1, [first.peer, second.peer]);
    const gradients = new Gradients(shape, 8);
    const placements = placementsFor(2, [1, 1]);
    for (const worker of [first, second]) worker.reduce(0, placements);
    first.publish(0, { lo: 0, length: 1 }, gradients);
    await expect.poll(() => proxy.connections, { timeout: 5000 }).toBe(1);
    proxy.resetConnections();
    await expect.poll(() => proxy.connections, { timeout: 5000 }).toBeGreaterThan(1);
    second.publish(0, { lo: 1, length: 1 }, gradients);
    await Promise.all([first.next('reduced'), second.next('reduced')]);
    expect(bitsOf(first.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
    await proxy.close();
  });
});

describe('a dead peer', () => {
  it('is reported within 500 ms of its SIGKILL, once', timed, async () => {
    const shape = { elements: 100_000, microbatches: 2 };
    const [first] = three(cluster.open(3, shape));
    const child = spawn('node', ['--input-type=module', '-e', CHILD], { stdio: ['ignore', 'pipe', 'inherit'] });
    const port: string = await new Promise((resolve) => createInterface(child.stdout).once('line', resolve));
    const roster = [first.peer, { worker: 'child', incarnation: 'child-1', peerAddress: `127.0.0.1:${port}` }];
    first.startGeneration(1, roster);
    first.reduce(0, placementsFor(2, [1, 1]));
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(first.events.filter(({ kind }) => kind === 'peer_failed')).toEqual([]);
    const killedAt = performance.now();
    child.kill('SIGKILL');
    const failed = await first.next('peer_failed');
    expect(performance.now() - killedAt).toBeLessThan(500);
    expect(failed).toMatchObject({ generation: 1, worker: 'child' });
    await expect(first.next('peer_failed', 300)).rejects.toThrow('no peer_failed');
  });

  it('that another incarnation has replaced is reported', async () => {
    const shape = { elements: 100_000, microbatches: 2 };
    const [first, second] = three(cluster.open(3, shape));
    first.startGeneration(1, [first.peer, { ...second.peer, incarnation: 'w1-0' }]);
    first.reduce(0, placementsFor(2, [1, 1]));
    expect(await first.next('peer_failed')).toMatchObject({ reason: 'another incarnation answers' });
  });
});

/** A data plane in a process of its own that serves nothing yet. */
const CHILD = `
import { startDataPlane } from '${repository}dist/worker/collective/start_data_plane.js';
import { MemoryFile } from '${repository}dist/worker/io/memory_file.js';
const file = MemoryFile.create('child');
file.grow(2 ** 20);
const plane = await startDataPlane({ host: '127.0.0.1', worker: 'child', incarnation: 'child-1', onEvent: () => {}, log: () => {} });
plane.tell({ kind: 'open_job', job: 'any', exchangeFd: file.fd, vectorBytes: 400000, bf16Bytes: 0, microbatches: 2 });
console.log(plane.port);
`;

describe('a state', () => {
  const BYTES = 9_000_001;

  it('is pulled from two peers and verified', async () => {
    const [first, second, third] = three(cluster.begin(3, { elements: 1000, microbatches: 2 }));
    const state = stateImage(BYTES, 1);
    const target = MemoryFile.create('target');
    third.tell({ kind: 'fetch_state', job: third.job, committed: 7, ranks: [0, 1], fd: target.fd });
    for (const worker of [first, second]) {
      const { sha256, file } = state;
      worker.tell({ kind: 'publish_state', job: worker.job, committed: 7, fd: file.fd, bytes: BYTES, sha256 });
    }
    expect(await third.next('state_fetched')).toMatchObject({ committed: 7, bytes: BYTES });
    expect(target.map(0, BYTES).bytes(0, BYTES).equals(state.bytes)).toBe(true);
  });

  it.each([0, 1])(
    'row 25: of which rank %i serves corrupt bytes is refused by its digest, and taken from the other peer',
    async (bad) => {
      const workers = three(cluster.begin(3, { elements: 1000, microbatches: 2 }));
      const third = workers[2];
      const state = stateImage(BYTES, 2);
      const corrupt = stateImage(BYTES, 2);
      // One wrong bit in every piece of 4 MiB.
      for (let at = 5; at < BYTES; at += 1_000_000) corrupt.bytes.writeUInt8(corrupt.bytes.readUInt8(at) ^ 1, at);
      workers.slice(0, 2).forEach((worker, rank) => {
        const { fd } = rank === bad ? corrupt.file : state.file;
        worker.tell({ kind: 'publish_state', job: worker.job, committed: 3, fd, bytes: BYTES, sha256: state.sha256 });
      });
      const target = MemoryFile.create('target');
      third.tell({ kind: 'fetch_state', job: third.job, committed: 3, ranks: [0, 1], fd: target.fd });
      await third.next('state_fetched');
      expect(target.map(0, BYTES).bytes(0, BYTES).equals(state.bytes)).toBe(true);
    },
  );

  it('row 25: that only a corrupt peer has is never taken, and the peer is reported', async () => {
    const [first, , third] = three(cluster.begin(3, { elements: 1000, microbatches: 2 }));
    const state = stateImage(BYTES, 3);
    const sha256 = createHash('sha256').update('something else').digest('hex');
    first.tell({ kind: 'publish_state', job: first.job, committed: 3, fd: state.file.fd, bytes: BYTES, sha256 });
    const target = MemoryFile.create('target');
    third.tell({ kind: 'fetch_state', job: third.job, committed: 3, ranks: [0], fd: target.fd });
    expect(await third.next('peer_failed')).toMatchObject({ worker: 'w0', reason: 'served a corrupt state' });
    expect(third.events.some(({ kind }) => kind === 'state_fetched')).toBe(false);
  });
});
