import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HostGroups } from '../../../worker/collective/host_groups.js';
import { type PlannedPull, type ReadyChunk, ReducePlan } from '../../../worker/collective/reduce_plan.js';
import { BUCKET_BYTES, CHUNK_BYTES } from '../../../worker/collective/segments.js';

const PAYLOAD = 'a chunk';

function oneHost(count: number): HostGroups {
  return new HostGroups(Array.from({ length: count }, (_, rank) => `a:${rank}`));
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
      plan.folded(chunk.bucket);
    }
  };
  const open: { readonly pull: PlannedPull; offset: number }[] = [];
  const own = [...plan.shape.placements.keys()].filter((i) => plan.shape.placements[i]?.rank === plan.shape.rank);
  for (;;) {
    const fresh = plan.nextPulls();
    done.pulls.push(...fresh);
    open.push(...fresh.map((pull) => ({ pull, offset: 0 })));
    const publish = own.length > 0 && (open.length === 0 || pick(20) === 0);
    if (publish) fold(plan.published(own.shift() ?? -1, Number.POSITIVE_INFINITY));
    else if (open.length === 0) return done;
    else {
      const at = pick(open.length);
      const next = open[at];
      if (next === undefined) throw new Error('nothing is open');
      const length = Math.min(CHUNK_BYTES, next.pull.length - next.offset);
      if (next.pull.kind === 'reduced') plan.gathered(next.pull.bucket, length);
      else fold(plan.partialArrived(next.pull.bucket, next.pull.input, next.offset, PAYLOAD));
      next.offset += length;
      if (next.offset === next.pull.length) open.splice(at, 1);
    }
  }
}

describe('the plan of a reduce', () => {
  it('is done when everything has come, each byte folded or gathered once, in any order of arrival', () => {
    const cases = fc.tuple(fc.integer({ min: 1, max: 6 * 1_048_576 }), fc.nat({ max: 2 }), fc.nat());
    fc.assert(
      fc.property(cases, ([elements, rank, seed]) => {
        const vectorBytes = elements * 4;
        const plan = new ReducePlan<string>({ vectorBytes, rank, segments: 3, groups: oneHost(3), placements: four });
        const { pulls, folded } = runToEnd(plan, seed);
        expect(plan.done).toBe(true);
        const gathered = pulls.flatMap((pull) => (pull.kind === 'reduced' ? [pull.length] : []));
        const bytes = [...gathered, ...folded.map(({ length }) => length)].reduce((sum, length) => sum + length, 0);
        expect(bytes).toBe(vectorBytes);
        expect(new Set(folded.map(({ at }) => at)).size).toBe(folded.length);
      }),
      { numRuns: 50 },
    );
  });

  it('asks each holder for the own segment and each owner for its own, of every bucket', () => {
    const plan = new ReducePlan<string>({
      vectorBytes: BUCKET_BYTES,
      rank: 1,
      segments: 3,
      groups: oneHost(3),
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
    const groups = new HostGroups(['a:1', 'a:2', 'b:1', 'b:2']);
    const shape = { vectorBytes: BUCKET_BYTES, segments: 4, groups, placements: four };
    const asked = [0, 1].map((rank) =>
      new ReducePlan<string>({ ...shape, rank }).nextPulls().flatMap((pull) => {
        return pull.kind === 'reduced' ? [`segment ${pull.segment} from ${pull.rank}`] : [];
      }),
    );
    expect(asked).toEqual([
      ['segment 1 from 1', 'segment 2 from 2', 'segment 3 from 1'],
      ['segment 3 from 3', 'segment 0 from 0', 'segment 2 from 0'],
    ]);
  });

  it('keeps to a window of buckets while one of them waits', () => {
    const plan = new ReducePlan<string>({
      vectorBytes: 100 * BUCKET_BYTES,
      rank: 0,
      segments: 3,
      groups: oneHost(3),
      placements: four,
    });
    const first = new Set(plan.nextPulls().map(({ bucket }) => bucket));
    expect(first.size).toBe(16);
    expect(plan.nextPulls()).toEqual([]);
  });

  it('narrows the window when many partials would have to be held', () => {
    const placements = Array.from({ length: 64 }, (_, lo) => ({ node: { lo, length: 1 }, rank: 1 }));
    const plan = new ReducePlan<string>({
      vectorBytes: 100 * BUCKET_BYTES,
      rank: 0,
      segments: 2,
      groups: oneHost(2),
      placements,
    });
    expect(new Set(plan.nextPulls().map(({ bucket }) => bucket)).size).toBe(2);
  });

  it('needs nothing from anybody when the worker is alone, but its own partial', () => {
    const placements = [{ node: { lo: 0, length: 4 }, rank: 0 }];
    const plan = new ReducePlan<string>({
      vectorBytes: 2 * BUCKET_BYTES,
      rank: 0,
      segments: 1,
      groups: oneHost(1),
      placements,
    });
    expect(plan.nextPulls()).toEqual([]);
    expect(plan.done).toBe(false);
    for (const { bucket } of plan.published(0, 2)) plan.folded(bucket);
    expect(plan.done).toBe(true);
  });

  it('takes no chunk twice', () => {
    const plan = new ReducePlan<string>({
      vectorBytes: BUCKET_BYTES,
      rank: 0,
      segments: 3,
      groups: oneHost(3),
      placements: four,
    });
    plan.partialArrived(0, 1, 0, PAYLOAD);
    expect(() => plan.partialArrived(0, 1, 0, PAYLOAD)).toThrow('no chunk is wanted');
  });
});
