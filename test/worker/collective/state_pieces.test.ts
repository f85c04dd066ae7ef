import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import { StatePieces } from '../../../worker/collective/state_pieces.js';

const PIECE = 4 * 1024 * 1024;

/** Runs apart from each other, some of them empty. */
const missing = fc
  .array(fc.tuple(fc.nat(PIECE), fc.oneof(fc.nat(3 * PIECE), fc.constantFrom(0, PIECE, 2 * PIECE))), { maxLength: 6 })
  .map((runs) => {
    let reached = 0;
    return runs.map(([gap, length]): ByteRange => {
      const at = reached + gap;
      reached = at + length;
      return { at, length };
    });
  });

function lastByte(runs: readonly ByteRange[]): number {
  return Math.max(0, ...runs.map(({ at, length }) => at + length));
}

describe('the pieces of a state', () => {
  it('are each handed out once until they are given back, and never go beyond their run', () => {
    fc.assert(
      fc.property(missing, fc.infiniteStream(fc.boolean()), (runs, coin) => {
        const pieces = new StatePieces(runs);
        const all = [{ at: 0, length: lastByte(runs) }];
        const got: ByteRange[] = [];
        let givenBack = 0;
        for (let piece = pieces.take(all); piece !== undefined; piece = pieces.take(all)) {
          expect(pieces.whole).toBe(false);
          expect(piece.length).toBeGreaterThan(0);
          expect(piece.length).toBeLessThanOrEqual(PIECE);
          const { at, length } = piece;
          expect(runs.some((run) => run.at <= at && at + length <= run.at + run.length)).toBe(true);
          if (givenBack < 20 && coin.next().value === true) {
            givenBack++;
            pieces.giveBack(piece);
          } else {
            got.push(piece);
            pieces.pulled();
          }
        }
        expect(pieces.whole).toBe(true);
        expect(pieces.next).toEqual([]);
        got.sort((a, b) => a.at - b.at);
        got.reduce((reached, { at, length }) => {
          expect(at).toBeGreaterThanOrEqual(reached);
          return at + length;
        }, 0);
        const sum = (of: readonly ByteRange[]): number => of.reduce((total, { length }) => total + length, 0);
        expect(sum(got)).toBe(sum(runs));
      }),
    );
  });

  it('go only to a source that has the whole piece', () => {
    const pieces = new StatePieces([
      { at: 0, length: 10 },
      { at: 20, length: PIECE + 5 },
    ]);
    expect(pieces.take([{ at: 0, length: 9 }])).toBeUndefined();
    expect(pieces.take([])).toBeUndefined();
    const second = [{ at: 15, length: PIECE + 100 }];
    expect(pieces.take(second)).toEqual({ at: 20, length: PIECE });
    expect(pieces.take(second)).toEqual({ at: 20 + PIECE, length: 5 });
    expect(pieces.take(second)).toBeUndefined();
    expect(pieces.next).toEqual([{ at: 0, length: 10 }]);
    expect(pieces.take([{ at: 0, length: 10 }])).toEqual({ at: 0, length: 10 });
  });

  it('are not whole while one is being pulled', () => {
    const pieces = new StatePieces([{ at: 5, length: 1 }]);
    pieces.take([{ at: 0, length: 10 }]);
    expect(pieces.next).toEqual([]);
    expect(pieces.whole).toBe(false);
    pieces.pulled();
    expect(pieces.whole).toBe(true);
  });
});
