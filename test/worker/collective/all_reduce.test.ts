import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUCKET_BYTES } from '../../../worker/collective/segments.js';
import { bitsOf, Cluster, Gradients, placementsFor, reduceOn, type TestWorker } from './test_worker.js';

const LATE_MS = 200;

describe.each([
  ['that send to each other', false],
  ['that read each other on one host', true],
])('all-reduce over real data planes %s', (_name, sameHost) => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(5, { sameHost });
  });
  afterAll(() => cluster.close());

  it.each([
    { name: 'one worker alone', microbatches: 8, weights: [1] },
    { name: 'two workers with a half each', microbatches: 8, weights: [1, 1] },
    { name: 'three workers whose blocks are not subtrees', microbatches: 12, weights: [1, 1, 1] },
    { name: 'three uneven workers and an odd tree', microbatches: 7, weights: [1, 3, 2] },
    { name: 'four workers, two of which compute nothing', microbatches: 8, weights: [0, 5, 0, 3] },
    { name: 'five workers', microbatches: 12, weights: [1, 2, 3, 4, 2] },
  ])('$name get the sum of the tree, bit for bit', async ({ microbatches, weights }) => {
    const shape = { elements: 1_100_003, microbatches };
    const all = cluster.begin(weights.length, shape);
    for (const step of [0, 1]) {
      const gradients = new Gradients(shape, step + 1);
      const events = await reduceOn(all, step, placementsFor(microbatches, weights), gradients);
      const expected = bitsOf(gradients.total);
      for (const [rank, event] of events.entries()) {
        expect(bitsOf(all[rank]?.reduced(step) ?? new Float32Array()).equals(expected)).toBe(true);
        expect(event).toMatchObject({ step, generation: 1 });
        expect(event.facts).toEqual(gradients.factsOf({ lo: 0, length: microbatches }));
      }
    }
  });

  it('gives the same bits when nodes of one worker are not neighbours', async () => {
    const shape = { elements: 70_000, microbatches: 8 };
    const all = cluster.begin(3, shape);
    const gradients = new Gradients(shape, 3);
    const placements = [
      { node: { lo: 0, length: 1 }, rank: 2 },
      { node: { lo: 1, length: 1 }, rank: 0 },
      { node: { lo: 2, length: 2 }, rank: 2 },
      { node: { lo: 4, length: 2 }, rank: 1 },
      { node: { lo: 6, length: 1 }, rank: 0 },
      { node: { lo: 7, length: 1 }, rank: 2 },
    ];
    await reduceOn(all, 0, placements, gradients);
    for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });

  it.each([1, 15, 17, 100])(
    'gives the same bits for a vector of %i elements, shorter than a segment a worker',
    async (elements) => {
      const shape = { elements, microbatches: 4 };
      const all = cluster.begin(3, shape);
      const gradients = new Gradients(shape, elements);
      await reduceOn(all, 0, placementsFor(4, [1, 1, 2]), gradients);
      for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
    },
  );

  it('pulls no more than 2(N-1)/N of the vector when each worker has one node', async () => {
    const shape = { elements: 2_500_000, microbatches: 4 };
    const all = cluster.begin(4, shape);
    const events = await reduceOn(all, 0, placementsFor(4, [1, 1, 1, 1]), new Gradients(shape, 1));
    const ideal = ((2 * 3) / 4) * shape.elements * 4;
    for (const { pulledBytes } of events) {
      expect(pulledBytes).toBeGreaterThan(ideal * 0.95);
      expect(pulledBytes).toBeLessThan(ideal * 1.05);
    }
  });

  it('does not commit before a worker that owns nothing of a short vector has begun, too', async () => {
    const shape = { elements: 5, microbatches: 2 };
    const all = cluster.begin(3, shape);
    const [first, second, third] = all;
    if (first === undefined || second === undefined || third === undefined) throw new Error('three workers are needed');
    const gradients = new Gradients(shape, 9);
    // Somebody without a partial is waited for all the same.
    const placements = placementsFor(2, [0, 1, 1]);
    second.publish(0, { lo: 0, length: 1 }, gradients);
    third.publish(0, { lo: 1, length: 1 }, gradients);
    second.reduce(0, placements);
    third.reduce(0, placements);
    await expect(third.next('reduced', 300)).rejects.toThrow('no reduced');
    first.reduce(0, placements);
    await Promise.all(all.map((worker) => worker.next('reduced')));
    for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });

  it('reduces a short vector in one shot: nobody waits for what others do after they have published', async () => {
    const shape = { elements: 400_000, microbatches: 2 };
    const all = cluster.begin(2, shape);
    const [first, second] = all;
    if (first === undefined || second === undefined) throw new Error('two workers are needed');
    const placements = placementsFor(2, [1, 1]);
    for (const step of [0, 1, 2]) {
      const gradients = new Gradients(shape, step + 20);
      first.publish(step, { lo: 0, length: 1 }, gradients);
      second.publish(step, { lo: 1, length: 1 }, gradients);
      second.reduce(step, placements);
      const { pulledBytes } = await second.next('reduced');
      expect(pulledBytes).toBeGreaterThanOrEqual(shape.elements * 4);
      // What the second one keeps for a step longer is enough for whoever is late.
      second.tell({ kind: 'drop_partials', job: second.job, step });
      first.reduce(step, placements);
      await first.next('reduced');
      for (const worker of all) expect(bitsOf(worker.reduced(step)).equals(bitsOf(gradients.total))).toBe(true);
    }
  });

  it('waits for a worker that publishes its partial late', async () => {
    const shape = { elements: 1_200_000, microbatches: 4 };
    const all = cluster.begin(2, shape);
    const gradients = new Gradients(shape, 5);
    const placements = placementsFor(4, [1, 1]);
    for (const worker of all) worker.reduce(0, placements);
    all[0]?.publish(0, { lo: 0, length: 2 }, gradients);
    await expect(all[0]?.next('reduced', 300)).rejects.toThrow('no reduced');
    all[1]?.publish(0, { lo: 2, length: 2 }, gradients);
    await Promise.all(all.map((worker) => worker.next('reduced')));
    for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });

  it('counts as gather what comes after the own segments are reduced, and nothing before', async () => {
    const shape = { elements: 1_200_000, microbatches: 4 };
    const [first, second] = cluster.begin(2, shape);
    if (first === undefined || second === undefined) throw new Error('two workers are needed');
    const gradients = new Gradients(shape, 6);
    const placements = placementsFor(4, [1, 1]);
    first.reduce(0, placements);
    first.publish(0, { lo: 0, length: 2 }, gradients);
    // The partial is late: the first waits for it with its own segments. Then the second does not reduce: the first waits for its segments.
    await delay(LATE_MS);
    const publishedMs = performance.now();
    second.publish(0, { lo: 2, length: 2 }, gradients);
    await delay(2 * LATE_MS);
    second.reduce(0, placements);
    const reduced = await Promise.all([first.next('reduced'), second.next('reduced')]);
    const [waited = 0, late = 0] = reduced.map(({ gatherMs }) => gatherMs);
    expect(waited).toBeGreaterThan(LATE_MS);
    expect(waited).toBeLessThanOrEqual(performance.now() - publishedMs);
    expect(late).toBeLessThan(waited);
  });

  it('begins with buckets that are final while the rest is computed', async () => {
    const shape = { elements: 2_500_000, microbatches: 2 };
    const all = cluster.begin(2, shape);
    const gradients = new Gradients(shape, 7);
    const placements = placementsFor(2, [1, 1]);
    for (const worker of all) worker.reduce(0, placements);
    all.forEach((worker, lo) => {
      const slot = worker.write({ lo, length: 1 }, gradients);
      worker.tell({ kind: 'publish_buckets', job: worker.job, step: 0, node: { lo, length: 1 }, slot, buckets: 2 });
    });
    const begun = bitsOf(gradients.total).subarray(0, 2 * BUCKET_BYTES);
    const inSlot = (worker: TestWorker): Buffer => bitsOf(worker.reduced(0)).subarray(0, 2 * BUCKET_BYTES);
    for (const worker of all) await expect.poll(() => inSlot(worker).equals(begun)).toBe(true);
    for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(false);
    for (const [lo, worker] of all.entries()) worker.publish(0, { lo, length: 1 }, gradients);
    await Promise.all(all.map((worker) => worker.next('reduced')));
    for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });

  it('waits for a worker that starts the generation late', async () => {
    const shape = { elements: 300_000, microbatches: 2 };
    const workers = cluster.open(2, shape);
    const [first, second] = workers;
    const roster = workers.map(({ peer }) => peer);
    const gradients = new Gradients(shape, 6);
    const placements = placementsFor(2, [1, 1]);
    first?.startGeneration(1, roster);
    first?.reduce(0, placements);
    first?.publish(0, { lo: 0, length: 1 }, gradients);
    await new Promise((resolve) => setTimeout(resolve, 200));
    second?.startGeneration(1, roster);
    second?.reduce(0, placements);
    second?.publish(0, { lo: 1, length: 1 }, gradients);
    await Promise.all(workers.map((worker) => worker.next('reduced')));
    for (const worker of workers) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });
});
