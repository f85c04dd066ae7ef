import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

describe('a change of generation', () => {
  it('finishes the step in flight with fewer workers and other placements, with the same bits', async () => {
    const shape = { elements: 1_200_000, microbatches: 8 };
    const [first, second, third] = three(cluster.begin(3, shape));
    const gradients = new Gradients(shape, 1);
    const before = [
      { node: { lo: 0, length: 4 }, rank: 0 },
      { node: { lo: 4, length: 2 }, rank: 1 },
      { node: { lo: 6, length: 2 }, rank: 2 },
    ];
    for (const worker of [first, second, third]) worker.reduce(0, before);
    first.publish(0, { lo: 0, length: 4 }, gradients);
    second.publish(0, { lo: 4, length: 2 }, gradients);
    await expect(first.next('reduced', 200)).rejects.toThrow('no reduced');

    for (const worker of [first, second]) worker.stopGeneration();
    for (const worker of [first, second]) worker.startGeneration(2, [first.peer, second.peer]);
    const after = [
      { node: { lo: 0, length: 4 }, rank: 0 },
      { node: { lo: 4, length: 2 }, rank: 1 },
      { node: { lo: 6, length: 1 }, rank: 1 },
      { node: { lo: 7, length: 1 }, rank: 0 },
    ];
    for (const worker of [first, second]) worker.reduce(0, after);
    second.publish(0, { lo: 6, length: 1 }, gradients);
    first.publish(0, { lo: 7, length: 1 }, gradients);
    for (const worker of [first, second]) {
      expect(await worker.next('reduced')).toMatchObject({ generation: 2, step: 0 });
      expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
    }
    expect(third.events.some(({ kind }) => kind === 'reduced')).toBe(false);
  });

  it('never mixes in what an ended generation had reduced of the step', async () => {
    const shape = { elements: 1_200_000, microbatches: 2 };
    const [first, second, third] = three(cluster.begin(3, shape));
    const old = new Gradients(shape, 2);
    const placements = placementsFor(2, [1, 1]);
    // The third worker never reduces its segments, so the first two have theirs and no more.
    for (const worker of [first, second]) worker.reduce(0, placements);
    first.publish(0, { lo: 0, length: 1 }, old);
    second.publish(0, { lo: 1, length: 1 }, old);
    await expect(first.next('reduced', 300)).rejects.toThrow('no reduced');
    for (const worker of [first, second]) worker.stopGeneration();
    for (const worker of [first, second]) worker.startGeneration(2, [first.peer, second.peer]);
    // As in a loose job after a crash of its engines, the partials are computed again and come out different.
    const fresh = new Gradients(shape, 3);
    first.publish(0, { lo: 0, length: 1 }, fresh);
    second.publish(0, { lo: 1, length: 1 }, fresh);
    second.reduce(0, placements);
    await expect(second.next('reduced', 300)).rejects.toThrow('no reduced');
    first.reduce(0, placements);
    await Promise.all([first.next('reduced'), second.next('reduced')]);
    for (const worker of [first, second]) {
      expect(bitsOf(worker.reduced(0)).equals(bitsOf(fresh.total))).toBe(true);
    }
    expect(third.events.some(({ kind }) => kind === 'reduced')).toBe(false);
  });

  it('lets a worker that is a step behind fetch the reduced vector, past a rank that has none', async () => {
    const shape = { elements: 1_200_000, microbatches: 2 };
    const [first, second, third] = three(cluster.open(3, shape));
    const gradients = new Gradients(shape, 4);
    for (const worker of [first, second]) worker.startGeneration(1, [first.peer, second.peer]);
    const events = await reduceOn([first, second], 0, placementsFor(2, [1, 1]), gradients);
    // A fourth rank has not committed the step; it must not be able to hold the third one up.
    second.open('elsewhere', shape);
    const roster = [first.peer, third.peer, second.peer];
    for (const worker of [first, third]) worker.startGeneration(2, roster);
    third.tell({ kind: 'fetch_reduced', job: third.job, step: 0, ranks: [2, 0] });
    const fetched = await third.next('reduced');
    expect(fetched).toMatchObject({ generation: 2, step: 0, facts: events[0]?.facts });
    expect(bitsOf(third.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });

  it('makes a worker that is still in the old generation wait or be refused, never answered', async () => {
    const shape = { elements: 100_000, microbatches: 2 };
    const [first, second, third] = three(cluster.begin(3, shape));
    const gradients = new Gradients(shape, 5);
    const roster = [first.peer, second.peer];
    for (const worker of [first, second]) worker.startGeneration(2, roster);
    await reduceOn([first, second], 0, placementsFor(2, [1, 1]), gradients);
    third.reduce(0, placementsFor(2, [1, 1]));
    const failed = await third.next('peer_failed', 5000);
    expect(failed).toMatchObject({ generation: 1, reason: 'answers gone' });
    expect(third.events.some(({ kind }) => kind === 'reduced')).toBe(false);
  });
});
