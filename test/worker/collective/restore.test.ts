import { closeSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import type { DataPlaneEvent } from '../../../worker/collective/data_plane.js';
import { MemoryFile } from '../../../worker/io/memory_file.js';
import { FaultyProxy } from './faulty_proxy.js';
import { partsOf, Restorer, stateImage } from './state_image.js';
import { Cluster, TestWorker } from './test_worker.js';

const SHAPE = { elements: 1000, microbatches: 2 };
/** Thirds of it are more than one piece of 4 MiB and end in odd places. */
const BYTES = 14_000_001;
const THIRDS = partsOf(BYTES, 3);
const [FIRST_THIRD, SECOND_THIRD, LAST_THIRD] = three(THIRDS);

let cluster: Cluster;
const image = stateImage(BYTES, 1);
beforeAll(async () => {
  cluster = await Cluster.start(3);
});
afterAll(() => cluster.close());

function three<T>(all: readonly T[]): readonly [T, T, T] {
  const [first, second, third] = all;
  if (first === undefined || second === undefined || third === undefined) throw new Error('three are needed');
  return [first, second, third];
}

function countOf(worker: TestWorker, kind: DataPlaneEvent['kind']): number {
  return worker.events.filter((event) => event.kind === kind).length;
}

/** Three workers of a new job, each with its third of the image. */
function restorers(): readonly [Restorer, Restorer, Restorer] {
  const workers = three(cluster.begin(3, SHAPE));
  return three(workers.map((worker, rank) => new Restorer(worker, image, ownOf(rank))));
}

function ownOf(rank: number): readonly ByteRange[] {
  return THIRDS.slice(rank, rank + 1);
}

it('a worker whose engine dies while a peer pulls its state lives on', async () => {
  for (let round = 0; round < 5; round++) {
    const [first, second] = cluster.begin(2, SHAPE);
    if (first === undefined || second === undefined) throw new Error('two are needed');
    const serving = MemoryFile.borrow(image.file.reopen());
    const pulling = MemoryFile.create('pulled');
    const named = { committed: 7, bytes: BYTES, sha256: image.sha256 };
    first.tell({ kind: 'publish_state', job: first.job, ...named, fd: serving.fd });
    second.tell({ kind: 'fetch_state', job: second.job, committed: 7, ranks: [0], fd: pulling.fd });
    await expect.poll(() => pulling.size(), { interval: 1 }).toBe(BYTES);
    for (const [worker, fd] of [[first, serving.fd] as const, [second, pulling.fd] as const]) {
      worker.tell({ kind: 'close_job', job: worker.job });
      await worker.plane.obeyed();
      closeSync(fd);
    }
  }
  await Promise.all(cluster.workers.map(({ plane }) => plane.obeyed()));
  const alone = await TestWorker.start('alone', false);
  await alone.close();
  await alone.plane.obeyed();
});

describe('three workers that restore', () => {
  it('each get the thirds of the others, although one of them is late', async () => {
    const all = restorers();
    const [first, second, third] = all;
    all.forEach((one, rank) => {
      const others = [0, 1, 2].filter((other) => other !== rank);
      one.fetch(
        others,
        others.flatMap((other) => ownOf(other)),
      );
    });
    first.publish();
    second.publish();
    await expect.poll(() => first.holds(SECOND_THIRD) && second.holds(FIRST_THIRD), { timeout: 5000 }).toBe(true);
    await setTimeout(700);
    for (const { worker } of [first, second]) expect(countOf(worker, 'state_fetched')).toBe(0);
    expect(first.holds(LAST_THIRD)).toBe(false);
    third.publish();
    for (const one of all) {
      expect(await one.worker.next('state_fetched')).toMatchObject({ generation: 1, committed: 7, bytes: BYTES });
      expect(one.isWhole).toBe(true);
      expect(countOf(one.worker, 'peer_failed')).toBe(0);
    }
  });

  it('take any piece from one that has the whole state', async () => {
    const [first, second] = restorers();
    const third = new Restorer(three(cluster.workers)[2], image, [{ at: 0, length: BYTES }]);
    first.fetch([1, 2], [SECOND_THIRD, LAST_THIRD]);
    second.fetch([0, 2], [FIRST_THIRD, LAST_THIRD]);
    third.publishWhole();
    for (const one of [first, second]) {
      await one.worker.next('state_fetched');
      expect(one.isWhole).toBe(true);
    }
  });

  it('verify what one alone has read, when nothing is missing', async () => {
    const [first] = restorers();
    const alone = new Restorer(first.worker, image, [{ at: 0, length: BYTES }]);
    alone.fetch([], []);
    expect(await first.worker.next('state_fetched')).toMatchObject({ bytes: BYTES });
    alone.flipBitAt(BYTES - 1);
    alone.fetch([], []);
    expect(await first.worker.next('state_corrupt')).toMatchObject({ committed: 7 });
  });

  it('hear once that the state is corrupt when one of them serves a corrupt byte', async () => {
    const [first, second, third] = restorers();
    second.flipBitAt(SECOND_THIRD.at + 4_000_000);
    first.fetch([1, 2], [SECOND_THIRD, LAST_THIRD]);
    second.publish();
    third.publish();
    expect(await first.worker.next('state_corrupt')).toEqual({
      kind: 'state_corrupt',
      job: first.worker.job,
      generation: 1,
      committed: 7,
    });
    await setTimeout(1000);
    for (const kind of ['state_corrupt', 'state_fetched', 'peer_failed'] as const) {
      expect(countOf(first.worker, kind)).toBe(0);
    }
  });

  it('hear it also when what one of them has read itself is corrupt', async () => {
    const [first, second, third] = restorers();
    first.flipBitAt(100);
    first.fetch([1, 2], [SECOND_THIRD, LAST_THIRD]);
    second.publish();
    third.publish();
    await first.worker.next('state_corrupt');
    expect(countOf(first.worker, 'state_fetched')).toBe(0);
  });
});

describe('a source of a restore', () => {
  it('that dies in the middle is reported, and the next generation gets the state without it', async () => {
    const [first, second, third] = restorers();
    const proxy = await FaultyProxy.start(third.worker.plane.port);
    const peers = [first, second, third].map(({ worker }) => worker.peer);
    const viaProxy = { ...third.worker.peer, peerAddress: `127.0.0.1:${proxy.port}` };
    first.worker.startGeneration(2, [...peers.slice(0, 2), viaProxy]);
    for (const { worker } of [second, third]) worker.startGeneration(2, peers);
    second.publish();
    third.publish();
    proxy.dieAfter(1_500_000);
    first.fetch([1, 2], [SECOND_THIRD, LAST_THIRD]);
    expect(await first.worker.next('peer_failed')).toMatchObject({ generation: 2, worker: 'w2' });
    await setTimeout(1500);
    expect(countOf(first.worker, 'peer_failed')).toBe(0);
    expect(countOf(first.worker, 'state_fetched')).toBe(0);

    const pair = [first.worker, second.worker];
    for (const worker of pair) worker.stopGeneration();
    for (const worker of pair) worker.startGeneration(3, peers.slice(0, 2));
    const other = new Restorer(second.worker, image, [SECOND_THIRD, LAST_THIRD]);
    first.fetch([1], [SECOND_THIRD, LAST_THIRD]);
    other.publish();
    expect(await first.worker.next('state_fetched')).toMatchObject({ generation: 3 });
    expect(first.isWhole).toBe(true);
    await proxy.close();
  });

  it('that cannot be reached is reported when it shows that it is needed', async () => {
    const [first, second, third] = restorers();
    const peers = [first, second, third].map(({ worker }) => worker.peer);
    // Nobody listens there, so its failure shows at once; but only when the second answers is it known to be needed.
    const dead = { ...third.worker.peer, peerAddress: '127.0.0.1:1' };
    first.worker.startGeneration(2, [...peers.slice(0, 2), dead]);
    second.worker.startGeneration(2, peers);
    first.fetch([1, 2], [SECOND_THIRD, LAST_THIRD]);
    await setTimeout(1200);
    expect(countOf(first.worker, 'peer_failed')).toBe(0);
    second.publish();
    expect(await first.worker.next('peer_failed')).toMatchObject({ worker: 'w2' });
    await expect.poll(() => first.holds(SECOND_THIRD)).toBe(true);
  });

  it('that cannot be reached for a while is not reported when it is back before it is needed', async () => {
    const [first, second, third] = restorers();
    const peers = [first, second, third].map(({ worker }) => worker.peer);
    const closed = await FaultyProxy.start(third.worker.plane.port);
    const { port } = closed;
    await closed.close();
    first.worker.startGeneration(2, [...peers.slice(0, 2), { ...third.worker.peer, peerAddress: `127.0.0.1:${port}` }]);
    for (const { worker } of [second, third]) worker.startGeneration(2, peers);
    first.fetch([1, 2], [SECOND_THIRD, LAST_THIRD]);
    third.publish();
    await setTimeout(700);
    const proxy = await FaultyProxy.start(third.worker.plane.port, port);
    await expect.poll(() => first.holds(LAST_THIRD), { timeout: 5000 }).toBe(true);
    second.publish();
    await first.worker.next('state_fetched');
    expect(first.isWhole).toBe(true);
    expect(countOf(first.worker, 'peer_failed')).toBe(0);
    await proxy.close();
  });

  it('that has another state is left out, with a warning', async () => {
    const [first, second, third] = restorers();
    const before = first.worker.logs.length;
    const stranger = new Restorer(second.worker, stateImage(BYTES, 99), [{ at: 0, length: BYTES }]);
    stranger.publishWhole();
    first.fetch([1, 2], [SECOND_THIRD, LAST_THIRD]);
    await setTimeout(300);
    new Restorer(third.worker, image, [{ at: 0, length: BYTES }]).publishWhole();
    await first.worker.next('state_fetched');
    expect(first.isWhole).toBe(true);
    const said = first.worker.logs.slice(before);
    expect(said.filter((line) => line.includes('w1 has another state'))).toHaveLength(1);
    expect(countOf(first.worker, 'peer_failed')).toBe(0);
  });

  it('that has no more than its part in an older roster is asked again until it has what is missing', async () => {
    const [first, second] = restorers();
    const before = first.worker.logs.length;
    second.publish();
    first.fetch([1], [SECOND_THIRD, LAST_THIRD]);
    await expect.poll(() => first.holds(SECOND_THIRD)).toBe(true);
    await setTimeout(1200);
    const said = first.worker.logs.slice(before);
    expect(said.filter((line) => line.includes('no worker has all that is missing'))).toHaveLength(1);
    new Restorer(second.worker, image, [SECOND_THIRD, LAST_THIRD]).publish();
    await first.worker.next('state_fetched');
    expect(first.isWhole).toBe(true);
    expect(countOf(first.worker, 'peer_failed')).toBe(0);
  });

  it('that has a later checkpoint still, or opens the job anew, is asked again and not reported', async () => {
    const [first, second, third] = restorers();
    const peers = [first, second, third].map(({ worker }) => worker.peer);
    new Restorer(second.worker, stateImage(1000, 1), [{ at: 0, length: 10 }], 8).publish();
    first.fetch([1, 2], [SECOND_THIRD, LAST_THIRD]);
    await setTimeout(300);
    third.worker.open(first.worker.job, SHAPE);
    third.worker.startGeneration(1, peers);
    await setTimeout(300);
    third.publish();
    second.publish();
    await first.worker.next('state_fetched');
    expect(first.isWhole).toBe(true);
    expect(countOf(first.worker, 'peer_failed')).toBe(0);
  });

  it('is never asked for a whole state while it has only parts of it', async () => {
    const [first, second] = restorers();
    const target = MemoryFile.create('target');
    second.publish();
    const { job } = first.worker;
    first.worker.tell({ kind: 'fetch_state', job, committed: 7, ranks: [1], fd: target.fd });
    await setTimeout(1200);
    expect(target.size()).toBe(0);
    new Restorer(second.worker, image, [{ at: 0, length: BYTES }]).publishWhole();
    await first.worker.next('state_fetched');
    expect(target.map(0, BYTES).bytes(0, BYTES).equals(image.bytes)).toBe(true);
    expect(countOf(first.worker, 'peer_failed')).toBe(0);
  });
});
