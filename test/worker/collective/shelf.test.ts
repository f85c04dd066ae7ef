import { beforeEach, describe, expect, it } from 'vitest';
import type { PullRequest } from '../../../shared/wire/peer.js';
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import { MOST_RANGES } from '../../../worker/collective/byte_ranges.js';
import { BUCKET_BYTES } from '../../../worker/collective/segments.js';
import { Shelf } from '../../../worker/collective/shelf.js';

const facts = { loss: 1, weight: 2, consumed: ['a'] };
const roster = ['a', 'b'].map((worker) => ({ worker, incarnation: `${worker}-1`, peerAddress: 'x:1' }));
const gone = { kind: 'refused', status: 'gone' };
const unknown = { kind: 'refused', status: 'unknown' };

/** A request of worker b to rank 0 for its segment of bucket 0, with other fields as given. */
function ask(fields: Partial<PullRequest>): PullRequest {
  return {
    request: 1,
    kind: 'reduced',
    job: 'j',
    term: 1,
    generation: 5,
    step: 10,
    nodeLo: 0,
    nodeLength: 4,
    bucket: 0,
    segment: 0,
    segments: 2,
    offset: 0,
    length: 64,
    worker: 'b',
    incarnation: 'b-1',
    sameHost: false,
    ...fields,
  };
}

let shelf: Shelf;
beforeEach(() => {
  shelf = new Shelf(2 * BUCKET_BYTES, 8);
  shelf.start({ term: 1, generation: 5, rank: 0, roster });
});

describe('a request', () => {
  it.each([
    ['of an older generation is gone', { generation: 4 }, gone],
    ['of a newer generation waits for it', { generation: 6 }, { kind: 'wait', event: 'generation' }],
    ['of the same generation and an older term is gone', { term: 0 }, gone],
    ['of the same generation and a newer term waits', { term: 2 }, { kind: 'wait', event: 'generation' }],
    ['of a worker that is not in the roster is gone', { worker: 'c', incarnation: 'c-1' }, gone],
    ['of an older incarnation is gone', { incarnation: 'b-0' }, gone],
    ['of another size of roster is unknown', { segments: 3 }, unknown],
    ['for a segment that is not reduced waits for it', {}, { kind: 'wait', event: 'segment 10 0 0' }],
    ["for another's segment waits until it is here", { segment: 1 }, { kind: 'wait', event: 'segment 10 0 1' }],
    [
      'for a partial that is not published waits',
      { kind: 'partial' as const },
      { kind: 'wait', event: 'partial 10 0+4' },
    ],
    [
      'for a sum that is not made waits',
      { kind: 'sum' as const, bucket: 1, segment: 1 },
      { kind: 'wait', event: 'sum 10 0+4 1 1' },
    ],
    ['for a sum in another size of roster is unknown', { kind: 'sum' as const, segments: 3 }, unknown],
    ['for a state that is not exported waits', { kind: 'stateFacts' as const }, { kind: 'wait', event: 'state' }],
    ['to catch up with a step that is not committed is unknown', { segments: 1 }, unknown],
    ['for the total facts of such a step is unknown', { kind: 'facts' as const, nodeLength: 8, segments: 1 }, unknown],
  ])('%s', (_name, fields, answer) => {
    expect(shelf.lookUp(ask(fields))).toEqual(answer);
  });

  it('for a published partial finds the segment in its slot, from the offset on', () => {
    shelf.publish(10, { lo: 0, length: 4 }, { slot: 3, buckets: 2, facts });
    const answer = shelf.lookUp(ask({ kind: 'partial', bucket: 1, segment: 1, offset: 128 }));
    const at = BUCKET_BYTES * 1.5 + 128;
    expect(answer).toEqual({ kind: 'found', located: { kind: 'slot', slot: 3, at, length: 64 } });
    const beyond = ask({ kind: 'partial', bucket: 1, segment: 1, offset: BUCKET_BYTES / 2 });
    expect(shelf.lookUp(beyond)).toEqual(unknown);
    shelf.dropPartials(11);
    expect(shelf.lookUp(ask({ kind: 'partial' }))).toEqual(unknown);
  });

  it('for a bucket of a partial waits until that bucket is final, and for its facts until all of it is', () => {
    const waits = { kind: 'wait', event: 'partial 10 0+4' };
    shelf.publish(10, { lo: 0, length: 4 }, { slot: 3, buckets: 1, facts: undefined });
    expect(shelf.lookUp(ask({ kind: 'partial', bucket: 0 })).kind).toBe('found');
    expect(shelf.lookUp(ask({ kind: 'partial', bucket: 1 }))).toEqual(waits);
    expect(shelf.lookUp(ask({ kind: 'facts' }))).toEqual(waits);
    shelf.publish(10, { lo: 0, length: 4 }, { slot: 3, buckets: 2, facts });
    expect(shelf.lookUp(ask({ kind: 'partial', bucket: 1 })).kind).toBe('found');
    expect(shelf.lookUp(ask({ kind: 'facts' })).kind).toBe('found');
  });

  it('finds each segment as soon as it is reduced or gathered, and all of them after the commit', () => {
    shelf.beginReduction(10);
    shelf.holdSegment(10, 0, 0);
    expect(shelf.lookUp(ask({})).kind).toBe('found');
    expect(shelf.lookUp(ask({ bucket: 1 })).kind).toBe('wait');
    expect(shelf.lookUp(ask({ segment: 1 })).kind).toBe('wait');
    expect(shelf.lookUp(ask({ segments: 1 }))).toEqual(unknown);
    shelf.holdSegment(10, 0, 1);
    const at = BUCKET_BYTES / 2;
    const gathered = { kind: 'found', located: { kind: 'slot', slot: 0, at, length: 64 } };
    expect(shelf.lookUp(ask({ segment: 1 }))).toEqual(gathered);
    expect(shelf.lookUp(ask({ segment: 1, generation: 4 }))).toEqual(gone);
    shelf.commit(10, facts);
    expect(shelf.lookUp(ask({ bucket: 1, segment: 1 })).kind).toBe('found');
    expect(shelf.lookUp(ask({ segments: 1 })).kind).toBe('found');
  });

  it.each([true, false])('never finds a partly reduced vector after its generation ended, stopped: %s', (stopped) => {
    shelf.beginReduction(10);
    shelf.holdSegment(10, 0, 0);
    shelf.holdSegment(10, 0, 1);
    if (stopped) shelf.stop();
    if (stopped) expect(shelf.lookUp(ask({}))).toEqual(gone);
    shelf.start({ term: 1, generation: 6, rank: 0, roster });
    for (const segment of [0, 1]) expect(shelf.lookUp(ask({ generation: 6, segment })).kind).toBe('wait');
    expect(shelf.lookUp(ask({ generation: 6, segments: 1 }))).toEqual(unknown);
  });

  it('for a sum finds its memory until the partials of the step are dropped', () => {
    const memory = Buffer.alloc(256);
    shelf.holdSum(10, { lo: 0, length: 4 }, 1, 1, memory);
    const sum = { kind: 'sum' as const, bucket: 1, segment: 1 };
    const located = { kind: 'memory', memory, at: 128, length: 64 };
    expect(shelf.lookUp(ask({ ...sum, offset: 128 }))).toEqual({ kind: 'found', located });
    expect(shelf.lookUp(ask({ ...sum, offset: 200 }))).toEqual(unknown);
    for (const other of [{ bucket: 0 }, { segment: 0 }, { nodeLength: 2 }, { step: 11 }])
      expect(shelf.lookUp(ask({ ...sum, ...other })).kind).toBe('wait');
    expect(shelf.lookUp(ask({ ...sum, kind: 'partial' })).kind).toBe('wait');
    expect(shelf.dropPartials(10)).toEqual([]);
    expect(shelf.dropPartials(11)).toEqual([memory]);
    expect(shelf.lookUp(ask(sum))).toEqual(unknown);
  });

  it('for a sum never finds one of another generation', () => {
    shelf.holdSum(10, { lo: 0, length: 4 }, 0, 0, Buffer.alloc(256));
    expect(shelf.lookUp(ask({ kind: 'sum' })).kind).toBe('found');
    shelf.start({ term: 1, generation: 6, rank: 0, roster });
    expect(shelf.lookUp(ask({ kind: 'sum' }))).toEqual(gone);
    expect(shelf.lookUp(ask({ kind: 'sum', generation: 6 })).kind).toBe('wait');
    expect(shelf.dropPartials(11)).toEqual([]);
  });

  it('to reduce is never given what another generation committed, but a request to catch up is', () => {
    shelf.beginReduction(10);
    shelf.commit(10, facts);
    shelf.start({ term: 1, generation: 6, rank: 0, roster });
    expect(shelf.lookUp(ask({ generation: 6 })).kind).toBe('wait');
    expect(shelf.lookUp(ask({ generation: 6, segments: 1 })).kind).toBe('found');
    const total = ask({ generation: 6, kind: 'facts', nodeLength: 8, segments: 1 });
    expect(shelf.lookUp(total)).toEqual({ kind: 'found', located: { kind: 'partial_facts', facts } });
  });

  it('finds a committed vector until the step after the next is reduced into its slot', () => {
    for (const step of [10, 11]) {
      shelf.beginReduction(step);
      shelf.commit(step, facts);
    }
    expect(shelf.lookUp(ask({ segments: 1 })).kind).toBe('found');
    shelf.beginReduction(12);
    expect(shelf.lookUp(ask({ segments: 1 }))).toEqual(unknown);
    expect(shelf.lookUp(ask({}))).toEqual(unknown);
    expect(shelf.lookUp(ask({ step: 11, segments: 1 })).kind).toBe('found');
  });

  it('for a state finds the very export that it names', () => {
    shelf.publishState({ committed: 10, fd: 9, bytes: 100, sha256: 'x', ranges: [{ at: 0, length: 100 }] });
    const at = { offset: 36, length: 64 };
    expect(shelf.lookUp(ask({ kind: 'state', ...at }))).toEqual({
      kind: 'found',
      located: { kind: 'state', fd: 9, at: 36, length: 64 },
    });
    expect(shelf.lookUp(ask({ kind: 'state', offset: 37, length: 64 }))).toEqual(unknown);
    expect(shelf.lookUp(ask({ kind: 'state', step: 9 }))).toEqual(unknown);
    expect(shelf.lookUp(ask({ kind: 'state', step: 11 })).kind).toBe('wait');
  });

  it.each([
    { offset: 0, length: 10, kind: 'found' },
    { offset: 0, length: 11, kind: 'refused' },
    { offset: 10, length: 1, kind: 'refused' },
    { offset: 19, length: 2, kind: 'refused' },
    { offset: 20, length: 30, kind: 'found' },
    { offset: 25, length: 10, kind: 'found' },
    { offset: 49, length: 2, kind: 'refused' },
    { offset: 5, length: 20, kind: 'refused' },
    { offset: 90, length: 10, kind: 'refused' },
  ])('for $length bytes at $offset of a state that is published in parts is $kind', ({ offset, length, kind }) => {
    const ranges = [
      { at: 0, length: 10 },
      { at: 20, length: 10 },
      { at: 30, length: 20 },
    ];
    shelf.publishState({ committed: 10, fd: 9, bytes: 100, sha256: 'x', ranges });
    const answer = shelf.lookUp(ask({ kind: 'state', offset, length }));
    expect(answer.kind).toBe(kind);
    if (kind === 'refused') expect(answer).toEqual(unknown);
  });

  it('for the facts of a state that is published in parts says which parts', () => {
    const state = { committed: 10, fd: 9, bytes: 100, sha256: 'x', ranges: [{ at: 20, length: 30 }] };
    shelf.publishState(state);
    expect(shelf.lookUp(ask({ kind: 'stateFacts' }))).toEqual({
      kind: 'found',
      located: { kind: 'state_facts', facts: state },
    });
  });

  it('never comes upon ranges that are not runs of the state', () => {
    const publish = (ranges: readonly ByteRange[]) => () =>
      shelf.publishState({ committed: 10, fd: 9, bytes: 100, sha256: 'x', ranges });
    expect(publish([{ at: 90, length: 11 }])).toThrow('no runs of its bytes');
    expect(publish(Array.from({ length: MOST_RANGES + 1 }, () => ({ at: 0, length: 0 })))).toThrow();
    expect(publish(Array.from({ length: MOST_RANGES }, () => ({ at: 0, length: 0 })))).not.toThrow();
  });
});
