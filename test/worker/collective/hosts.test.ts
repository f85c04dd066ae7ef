/** All-reduce between hosts with several workers each: addresses of this machine stand for the hosts. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

const CASES: readonly Case[] = [
  { name: 'two hosts of two', hosts: [A, A, B, B], microbatches: 8, weights: [1, 1, 1, 1] },
  { name: 'two hosts of two whose ranks alternate', hosts: [A, B, A, B], microbatches: 8, weights: [1, 1, 1, 1] },
  { name: 'a host of three and one of one', hosts: [A, A, A, B], microbatches: 8, weights: [1, 1, 1, 1] },
  { name: 'uneven blocks and an odd tree', hosts: [A, A, B, B], microbatches: 13, weights: [1, 5, 2, 3] },
  { name: 'a worker that computes nothing', hosts: [A, A, B, B], microbatches: 8, weights: [0, 5, 0, 3] },
  { name: 'three hosts', hosts: [A, B, B, C, C], microbatches: 12, weights: [1, 2, 3, 4, 2] },
  { name: 'five hosts of one', hosts: [A, B, C, '127.0.0.4', '127.0.0.5'], microbatches: 5, weights: [1, 1, 1, 1, 1] },
  {
    name: 'nodes of one host that are not neighbours',
    hosts: [A, A, B, B],
    microbatches: 8,
    weights: [],
    placements: [leaf(0, 0), leaf(1, 2), leaf(2, 1), leaf(3, 0), leaf(4, 3), leaf(5, 3), leaf(6, 1), leaf(7, 2)],
  },
  { name: 'bfloat16', hosts: [A, A, B, B], microbatches: 8, weights: [1, 1, 1, 1], bf16Bytes: 2_500_032 },
];

describe.each([
  ['that send to each other', false],
  ['that read each other where they can', true],
])('workers on several hosts %s', (_name, sameHost) => {
  it.each(CASES)('$name: get the sum of the tree, bit for bit', async (row) => {
    const { hosts, microbatches, weights, bf16Bytes } = row;
    const cluster = await Cluster.start(hosts.length, { sameHost, hosts });
    const shape = { elements: 1_100_003, microbatches, ...(bf16Bytes === undefined ? {} : { bf16Bytes }) };
    const all = cluster.begin(hosts.length, shape);
    const placements = row.placements ?? placementsFor(microbatches, weights);
    for (const step of [0, 1, 2]) {
      const gradients = new Gradients(shape, step + 1);
      const events = await reduceOn(all, step, placements, gradients);
      const expected = bitsOf(gradients.total);
      for (const [rank, { facts }] of events.entries()) {
        expect(bitsOf(all[rank]?.reduced(step) ?? new Float32Array()).equals(expected)).toBe(true);
        expect(facts).toEqual(gradients.factsOf({ lo: 0, length: microbatches }));
      }
      for (const worker of all) worker.tell({ kind: 'drop_partials', job: worker.job, step: step + 1 });
    }
    await cluster.close();
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

describe('the links between hosts', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(4, { hosts: [A, A, B, B] });
  });
  afterAll(() => cluster.close());

  it('carry each reduced segment once for a host', async () => {
    const shape = { elements: 2_500_000, microbatches: 1 };
    const all = cluster.open(4, shape);
    const links = await Links.between(all);
    links.startGeneration(1);
    // Only one worker has a partial: into its own host come only reduced segments.
    const gradients = new Gradients(shape, 1);
    await reduceOn(all, 0, [{ node: { lo: 0, length: 1 }, rank: 0 }], gradients);
    for (const worker of all) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
    const ideal = (shape.elements * 4) / 2;
    expect(links.bytesOf(A).into).toBeGreaterThan(ideal);
    expect(links.bytesOf(A).into).toBeLessThan(ideal * 1.02);
    await links.close();
  });
});
