/** All-reduce between hosts with several workers each: addresses of this machine stand for the hosts. */
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUCKET_BYTES } from '../../../worker/collective/segments.js';
import { timed } from '../../timed.js';
import { FaultyProxy } from './faulty_proxy.js';
import { bitsOf, Cluster, Gradients, type Placement, placementsFor, reduceOn, type TestWorker } from './test_worker.js';

const [A, B, C] = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];

interface Case {
  readonly name: string;
  readonly hosts: readonly string[];
  readonly microbatches: number;
  readonly weights: readonly number[];
  readonly placements?: readonly Placement[];
  readonly bf16Bytes?: number;
}

function leaf(lo: number, rank: number): Placement {
  return { node: { lo, length: 1 }, rank };
}

/** Those on the same hosts next to each other: they share a cluster. */
const CASES: readonly Case[] = [
  { name: 'two hosts of two', hosts: [A, A, B, B], microbatches: 8, weights: [1, 1, 1, 1] },
  { name: 'uneven blocks and an odd tree', hosts: [A, A, B, B], microbatches: 13, weights: [1, 5, 2, 3] },
  { name: 'a worker that computes nothing', hosts: [A, A, B, B], microbatches: 8, weights: [0, 5, 0, 3] },
  {
    name: 'nodes of one host that are not neighbours',
    hosts: [A, A, B, B],
    microbatches: 8,
    weights: [],
    placements: [leaf(0, 0), leaf(1, 2), leaf(2, 1), leaf(3, 0), leaf(4, 3), leaf(5, 3), leaf(6, 1), leaf(7, 2)],
  },
  { name: 'bfloat16', hosts: [A, A, B, B], microbatches: 8, weights: [1, 1, 1, 1], bf16Bytes: 2_500_032 },
  { name: 'two hosts of two whose ranks alternate', hosts: [A, B, A, B], microbatches: 8, weights: [1, 1, 1, 1] },
  { name: 'a host of three and one of one', hosts: [A, A, A, B], microbatches: 8, weights: [1, 1, 1, 1] },
  { name: 'three hosts', hosts: [A, B, B, C, C], microbatches: 12, weights: [1, 2, 3, 4, 2] },
  { name: 'five hosts of one', hosts: [A, B, C, '127.0.0.4', '127.0.0.5'], microbatches: 5, weights: [1, 1, 1, 1, 1] },
];

describe.each([
  ['that send to each other', false],
  ['that read each other where they can', true],
])('workers on several hosts %s', (_name, sameHost) => {
  let cluster: Cluster | undefined;
  let hostsOfCluster: readonly string[] = [];
  afterAll(() => cluster?.close());

  async function clusterOn(hosts: readonly string[]): Promise<Cluster> {
    if (cluster !== undefined && isDeepStrictEqual(hosts, hostsOfCluster)) return cluster;
    await cluster?.close();
    hostsOfCluster = hosts;
    cluster = await Cluster.start(hosts.length, { sameHost, hosts });
    return cluster;
  }

  it.each(CASES)('$name: get the sum of the tree, bit for bit', async (row) => {
    const { hosts, microbatches, weights, bf16Bytes } = row;
    const shape = { elements: 1_100_003, microbatches, ...(bf16Bytes === undefined ? {} : { bf16Bytes }) };
    const all = (await clusterOn(hosts)).begin(hosts.length, shape);
    const placements = row.placements ?? placementsFor(microbatches, weights);
    for (const step of [0, 1]) {
      const gradients = new Gradients(shape, step + 1);
      const events = await reduceOn(all, step, placements, gradients);
      const expected = bitsOf(gradients.total);
      for (const [rank, { facts }] of events.entries()) {
        expect(bitsOf(all[rank]?.reduced(step) ?? new Float32Array()).equals(expected)).toBe(true);
        expect(facts).toEqual(gradients.factsOf({ lo: 0, length: microbatches }));
      }
      for (const worker of all) worker.tell({ kind: 'drop_partials', job: worker.job, step: step + 1 });
    }
  });
});

/** Every way from a worker of one host to a worker of another leads through a proxy. */
class Links {
  private constructor(
    private readonly workers: readonly TestWorker[],
    /** By the host that pulls, then by the worker that is pulled from. */
    private readonly proxies: ReadonlyMap<string, ReadonlyMap<TestWorker, FaultyProxy>>,
  ) {}

  static async between(workers: readonly TestWorker[]): Promise<Links> {
    const hosts = [...new Set(workers.map(({ host }) => host))];
    const proxies = new Map<string, ReadonlyMap<TestWorker, FaultyProxy>>();
    for (const host of hosts) {
      const others = workers.filter((worker) => worker.host !== host);
      const made = others.map(
        async (worker) => [worker, await FaultyProxy.start(worker.plane.port, 0, worker.host)] as const,
      );
      proxies.set(host, new Map(await Promise.all(made)));
    }
    return new Links(workers, proxies);
  }

  startGeneration(generation: number): void {
    for (const worker of this.workers) {
      const ways = this.proxies.get(worker.host);
      const roster = this.workers.map((other) => {
        const { peer } = other;
        return { ...peer, peerAddress: ways?.get(other)?.address ?? peer.peerAddress };
      });
      worker.startGeneration(generation, roster);
    }
  }

  /** What the links of the host have carried, in and out. */
  bytesOf(host: string): { readonly into: number; readonly out: number } {
    let [into, out] = [0, 0];
    for (const [puller, ways] of this.proxies) {
      for (const [worker, { passedBytes }] of ways) {
        if (puller === host) into += passedBytes;
        if (worker.host === host) out += passedBytes;
      }
    }
    return { into, out };
  }

  async close(): Promise<void> {
    for (const ways of this.proxies.values()) for (const proxy of ways.values()) await proxy.close();
  }
}

/** Four workers of a new job, two on each of two hosts. */
function four(all: readonly TestWorker[]): readonly [TestWorker, TestWorker, TestWorker, TestWorker] {
  const [first, second, third, fourth] = all;
  if (first === undefined || second === undefined || third === undefined || fourth === undefined)
    throw new Error('four workers are needed');
  return [first, second, third, fourth];
}

describe('two workers on each of two hosts', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(4, { hosts: [A, A, B, B] });
  });
  afterAll(() => cluster.close());

  it.each([
    // Only one worker has a partial: into its own host come only reduced segments.
    { name: 'a reduced segment', placements: [{ node: { lo: 0, length: 4 }, rank: 0 }], into: 1 / 2, out: 1 },
    { name: 'what each host adds up', placements: placementsFor(4, [1, 1, 1, 1]), into: 1, out: 1 },
    // Nothing can be added up before it leaves its host.
    { name: 'each partial', placements: [leaf(0, 0), leaf(1, 2), leaf(2, 1), leaf(3, 3)], into: 3 / 2, out: 3 / 2 },
    // The first host adds up {0, 1}, the second {4, 5, 6, 7}; {2} and {3} cross as they are.
    {
      name: 'sums and partials',
      placements: [
        leaf(0, 0),
        leaf(1, 1),
        leaf(2, 2),
        leaf(3, 1),
        { node: { lo: 4, length: 2 }, rank: 2 },
        { node: { lo: 6, length: 2 }, rank: 3 },
      ],
      into: 3 / 2,
      out: 3 / 2,
    },
  ])('send $name once over the network', timed, async ({ placements, into, out }) => {
    const microbatches = placements.reduce((sum, { node }) => sum + node.length, 0);
    const shape = { elements: 2_500_000, microbatches };
    const all = cluster.open(4, shape);
    const links = await Links.between(all);
    links.startGeneration(1);
    const gradients = new Gradients(shape, 1);
    await reduceOn(all, 0, placements, gradients);
    for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
    const vectorBytes = shape.elements * 4;
    const carried = links.bytesOf(A);
    expect(carried.into / vectorBytes).toBeCloseTo(into, 1);
    expect(carried.out / vectorBytes).toBeCloseTo(out, 1);
    await links.close();
  });

  it.each([
    { what: 'added up for another host, because a partial is missing', stalledBy: 'publish' },
    { what: 'reduced and carried, because one worker does not reduce', stalledBy: 'reduce' },
  ])('never mix in what an ended generation had $what', async ({ stalledBy }) => {
    const shape = { elements: 1_200_000, microbatches: 4 };
    const [first, second, third, fourth] = four(cluster.begin(4, shape));
    const old = new Gradients(shape, 2);
    const rest = [first, second, third];
    for (const worker of rest) worker.reduce(0, placementsFor(4, [1, 1, 1, 1]));
    for (const [lo, worker] of rest.entries()) worker.publish(0, { lo, length: 1 }, old);
    if (stalledBy === 'publish') fourth.reduce(0, placementsFor(4, [1, 1, 1, 1]));
    else fourth.publish(0, { lo: 3, length: 1 }, old);
    await expect(first.next('reduced', 500)).rejects.toThrow('no reduced');
    for (const worker of rest) worker.stopGeneration();
    const roster = rest.map(({ peer }) => peer);
    for (const worker of rest) worker.startGeneration(2, roster);
    const fresh = new Gradients(shape, 3);
    for (const [lo, worker] of [first, second].entries()) worker.publish(0, { lo, length: 1 }, fresh);
    third.publish(0, { lo: 2, length: 2 }, fresh);
    const placements = placementsFor(4, [1, 1, 2]);
    // The first worker is the one that had something for each of them.
    for (const worker of [second, third]) worker.reduce(0, placements);
    await expect(third.next('reduced', 500)).rejects.toThrow('no reduced');
    first.reduce(0, placements);
    for (const worker of rest) {
      expect(await worker.next('reduced')).toMatchObject({ generation: 2 });
      expect(bitsOf(worker.reduced(0)).equals(bitsOf(fresh.total))).toBe(true);
    }
    expect(fourth.events.some(({ kind }) => kind === 'reduced')).toBe(false);
  });

  it.each([
    { who: 'the owner that waits for its sums', observer: 2, part: 1 / 8 },
    { who: 'the worker on its own host that waits for what it gathers', observer: 1, part: 3 / 4 },
  ])('report a carrier that dies in the middle: $who', async ({ observer, part }) => {
    const shape = { elements: 2_500_000, microbatches: 4 };
    const all = four(cluster.open(4, shape));
    const [carrier] = all;
    const proxy = await FaultyProxy.start(carrier.plane.port, 0, A);
    const dying = { ...carrier.peer, peerAddress: proxy.address };
    all.forEach((worker, rank) => {
      const roster = all.map(({ peer }) => peer);
      worker.startGeneration(1, rank === observer ? roster.with(0, dying) : roster);
    });
    proxy.dieAfter(shape.elements * 4 * part);
    const gradients = new Gradients(shape, 4);
    const placements = placementsFor(4, [1, 1, 1, 1]);
    all.forEach((worker, lo) => {
      worker.reduce(0, placements);
      worker.publish(0, { lo, length: 1 }, gradients);
    });
    expect(await all[observer]?.next('peer_failed')).toMatchObject({ generation: 1, worker: carrier.name });
    await proxy.close();
  });

  it('begin with buckets that are final while the rest is computed', async () => {
    const shape = { elements: 2_500_000, microbatches: 4 };
    const all = cluster.begin(4, shape);
    const gradients = new Gradients(shape, 7);
    for (const worker of all) worker.reduce(0, placementsFor(4, [1, 1, 1, 1]));
    all.forEach((worker, lo) => {
      const slot = worker.write({ lo, length: 1 }, gradients);
      worker.tell({ kind: 'publish_buckets', job: worker.job, step: 0, node: { lo, length: 1 }, slot, buckets: 2 });
    });
    const begun = bitsOf(gradients.total).subarray(0, 2 * BUCKET_BYTES);
    const inSlot = (worker: TestWorker): Buffer => bitsOf(worker.reduced(0)).subarray(0, 2 * BUCKET_BYTES);
    for (const worker of all) await expect.poll(() => inSlot(worker).equals(begun), { timeout: 5000 }).toBe(true);
    for (const [lo, worker] of all.entries()) worker.publish(0, { lo, length: 1 }, gradients);
    await Promise.all(all.map((worker) => worker.next('reduced')));
    for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });
});
