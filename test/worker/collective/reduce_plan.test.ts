import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeKey, rootOf } from '../../../shared/tree.js';
import { HostGroups } from '../../../worker/collective/host_groups.js';
import { type PlannedPull, ReducePlan } from '../../../worker/collective/reduce_plan.js';
import { type Placement, routesFor } from '../../../worker/collective/routes.js';
import type { ReadyChunk } from '../../../worker/collective/segment_fold.js';
import { BUCKET_BYTES, bucketCount, CHUNK_BYTES, segmentSpan } from '../../../worker/collective/segments.js';

const PAYLOAD = 'a chunk';

function totalOf(lengths: readonly number[]): number {
  return lengths.reduce((sum, length) => sum + length, 0);
}

interface PlanShape {
  readonly vectorBytes: number;
  readonly rank: number;
  /** Of each rank. */
  readonly hosts: string;
  readonly placements: readonly Placement[];
}

/** The plan of one worker; each letter of `hosts` is a host. */
function planFor({ vectorBytes, rank, hosts, placements }: PlanShape): ReducePlan<string> {
  const groups = new HostGroups([...hosts].map((host) => `${host}:1`));
  const microbatches = placements.reduce((sum, { node }) => sum + node.length, 0);
  const routes = routesFor({ vectorBytes, rank, groups, microbatches, placements });
  return new ReducePlan<string>({ vectorBytes, rank, routes });
}

const four = [
  { node: { lo: 0, length: 2 }, rank: 0 },
  { node: { lo: 2, length: 1 }, rank: 1 },
  { node: { lo: 3, length: 1 }, rank: 2 },
];

interface Outcome {
  readonly pulls: PlannedPull[];
  readonly folded: ReadyChunk<string>[];
}

/** Answers pulls in an order that the seed decides until nothing is left, and returns what was done. */
function runToEnd(plan: ReducePlan<string>, seed: number): Outcome {
  let state = seed;
  const pick = (count: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * count);
  };
  const done: Outcome = { pulls: [], folded: [] };
  const fold = (chunks: readonly ReadyChunk<string>[]): void => {
    for (const chunk of chunks) {
      done.folded.push(chunk);
      plan.folded(chunk);
    }
  };
  const open: { readonly pull: PlannedPull; offset: number }[] = [];
  const { own: ownSum, carried } = plan.shape.routes;
  const terms = [ownSum, ...carried].flatMap((sum) => sum.terms.filter(({ rank }) => rank === plan.shape.rank));
  const own = [...new Map(terms.map(({ node }) => [nodeKey(node), node])).values()];
  for (;;) {
    const fresh = plan.nextPulls();
    done.pulls.push(...fresh);
    open.push(...fresh.map((pull) => ({ pull, offset: 0 })));
    const publish = own.length > 0 && (open.length === 0 || pick(20) === 0);
    if (publish) fold(plan.published(own.shift() ?? rootOf(1), Number.POSITIVE_INFINITY));
    else if (open.length === 0) return done;
    else {
      const at = pick(open.length);
      const next = open[at];
      if (next === undefined) throw new Error('nothing is open');
      const length = Math.min(CHUNK_BYTES, next.pull.length - next.offset);
      if (next.pull.kind === 'reduced') plan.gathered(next.pull.bucket, length);
      else fold(plan.arrived(next.pull, next.offset, PAYLOAD));
      next.offset += length;
      if (next.offset === next.pull.length) open.splice(at, 1);
    }
  }
}

describe('the plan of a reduce', () => {
  it('is done when everything has come, each byte folded or gathered once, in any order of arrival', () => {
    const elements = fc.integer({ min: 1, max: 6 * 1_048_576 });
    const cases = fc.tuple(elements, fc.nat({ max: 2 }), fc.constantFrom('aaa', 'abc', 'abb', 'aab', 'aba'), fc.nat());
    fc.assert(
      fc.property(cases, ([elements, rank, hosts, seed]) => {
        const vectorBytes = elements * 4;
        const plan = planFor({ vectorBytes, rank, hosts, placements: four });
        const { pulls, folded: all } = runToEnd(plan, seed);
        expect(plan.done).toBe(true);
        const folded = all.filter(({ sum }) => sum === plan.shape.routes.own);
        for (const sum of plan.shape.routes.carried) {
          const lengths = all.flatMap((chunk) => (chunk.sum === sum ? [chunk.length] : []));
          const buckets = [...Array(bucketCount(vectorBytes)).keys()];
          const whole = buckets.map((bucket) => segmentSpan(vectorBytes, bucket, sum.segment, 3).length);
          expect(totalOf(lengths)).toBe(totalOf(whole));
        }
        const gathered = pulls.flatMap((pull) => (pull.kind === 'reduced' ? [pull.length] : []));
        expect(totalOf([...gathered, ...folded.map(({ length }) => length)])).toBe(vectorBytes);
        expect(new Set(folded.map(({ at }) => at)).size).toBe(folded.length);
      }),
      { numRuns: 50 },
    );
  });

  it('asks each holder for the own segment and each owner for its own, of every bucket', () => {
    const plan = planFor({
      vectorBytes: BUCKET_BYTES,
      rank: 1,
      hosts: 'aaa',
      placements: four,
    });
    const asked = plan.nextPulls().map(({ kind, rank, segment }) => `${kind} of segment ${segment} from ${rank}`);
    expect(asked).toEqual([
      'partial of segment 1 from 0',
      'partial of segment 1 from 2',
      'reduced of segment 2 from 2',
      'reduced of segment 0 from 0',
    ]);
  });

  it('asks the carrier on its own host for segments of other hosts, after all else', () => {
    const shape = { vectorBytes: BUCKET_BYTES, hosts: 'aabb', placements: four };
    const asked = [0, 1].map((rank) =>
      planFor({ ...shape, rank })
        .nextPulls()
        .flatMap((pull) => {
          return pull.kind === 'reduced' ? [`segment ${pull.segment} from ${pull.rank}`] : [];
        }),
    );
    expect(asked).toEqual([
      ['segment 1 from 1', 'segment 2 from 2', 'segment 3 from 1'],
      ['segment 3 from 3', 'segment 0 from 0', 'segment 2 from 0'],
    ]);
  });

  it('asks for what others wait for first, and for sums before what waits for them', () => {
    const placements = [0, 1, 2, 3].map((lo) => ({ node: { lo, length: 1 }, rank: lo }));
    const plan = planFor({ vectorBytes: BUCKET_BYTES, rank: 0, hosts: 'aabb', placements });
    const asked = plan.nextPulls().map(({ kind, rank, segment }) => `${kind} of segment ${segment} from ${rank}`);
    expect(asked).toEqual([
      'partial of segment 2 from 1',
      'partial of segment 0 from 1',
      'sum of segment 0 from 2',
      'reduced of segment 1 from 1',
      'reduced of segment 2 from 2',
      'reduced of segment 3 from 1',
    ]);
  });

  it('keeps to a window of buckets while one of them waits', () => {
    const plan = planFor({
      vectorBytes: 100 * BUCKET_BYTES,
      rank: 0,
      hosts: 'aaa',
      placements: four,
    });
    const first = new Set(plan.nextPulls().map(({ bucket }) => bucket));
    expect(first.size).toBe(16);
    expect(plan.nextPulls()).toEqual([]);
  });

  it('narrows the window when many partials would have to be held', () => {
    const placements = Array.from({ length: 64 }, (_, lo) => ({ node: { lo, length: 1 }, rank: 1 }));
    const plan = planFor({
      vectorBytes: 100 * BUCKET_BYTES,
      rank: 0,
      hosts: 'aa',
      placements,
    });
    expect(new Set(plan.nextPulls().map(({ bucket }) => bucket)).size).toBe(2);
  });

  it('needs nothing from anybody when the worker is alone, but its own partial', () => {
    const placements = [{ node: { lo: 0, length: 4 }, rank: 0 }];
    const plan = planFor({
      vectorBytes: 2 * BUCKET_BYTES,
      rank: 0,
      hosts: 'a',
      placements,
    });
    expect(plan.nextPulls()).toEqual([]);
    expect(plan.done).toBe(false);
    for (const chunk of plan.published({ lo: 0, length: 4 }, 2)) plan.folded(chunk);
    expect(plan.done).toBe(true);
  });

  it('takes no chunk twice', () => {
    const plan = planFor({
      vectorBytes: BUCKET_BYTES,
      rank: 0,
      hosts: 'aaa',
      placements: four,
    });
    const [pull] = plan.nextPulls();
    if (pull?.kind !== 'partial') throw new Error('a partial is pulled first');
    plan.arrived(pull, 0, PAYLOAD);
    expect(() => plan.arrived(pull, 0, PAYLOAD)).toThrow('no chunk is wanted');
  });
});
