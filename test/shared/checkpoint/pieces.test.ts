import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { eachPiece } from '../../../shared/checkpoint/pieces.js';
import { randomFrom } from './images.js';

const MIB = 2 ** 20;
const RUN = { at: 100, length: 41 * MIB + 5 };
const PIECES = 11;

/** Each byte of a buffer says which piece it was read for; reads take a while, in no particular order. */
class Source {
  underWay = 0;
  reads = 0;

  constructor(private readonly random: () => number) {}

  async read(target: Buffer, at: number): Promise<void> {
    this.underWay++;
    this.reads++;
    await delay(this.random() * 4);
    target.fill((at - RUN.at) / (4 * MIB) + 1);
    this.underWay--;
  }
}

describe('a run that is read in pieces', () => {
  it.each([1, 2, 3, 4, 5])('comes in order, and no buffer changes before it is free (seed %i)', async (seed) => {
    const random = randomFrom(seed);
    const source = new Source(random);
    const seen: number[] = [];
    let bytes = 0;
    await eachPiece(source, RUN, async (piece) => {
      const number = piece[0] ?? 0;
      seen.push(number);
      bytes += piece.length;
      await delay(random() * 12);
      expect(piece[0]).toBe(number);
      expect(piece[piece.length - 1]).toBe(number);
    });
    expect(seen).toEqual(Array.from({ length: PIECES }, (_, index) => index + 1));
    expect(bytes).toBe(RUN.length);
    expect(source.reads).toBe(PIECES);
  });

  it('ends at the first failure of a use, with nothing under way any more', async () => {
    for (let failing = 1; failing <= PIECES; failing++) {
      const source = new Source(randomFrom(failing));
      let used = 0;
      const using = eachPiece(source, RUN, async (piece) => {
        used++;
        await delay(3);
        used--;
        if (piece[0] === failing) throw new Error(`piece ${failing}`);
      });
      await expect(using).rejects.toThrow(`piece ${failing}`);
      expect([source.underWay, used]).toEqual([0, 0]);
    }
  });

  it('ends at the first read that fails, and when it is stopped', async () => {
    const source = new Source(randomFrom(1));
    const broken = {
      read: async (target: Buffer, at: number) => {
        await source.read(target, at);
        if (at > 20 * MIB) throw new Error('cannot read');
      },
    };
    await expect(eachPiece(broken, RUN, () => undefined)).rejects.toThrow('cannot read');
    expect(source.underWay).toBe(0);
    const controller = new AbortController();
    const stopped = eachPiece(source, RUN, () => controller.abort(new Error('stopped')), controller.signal);
    await expect(stopped).rejects.toThrow('stopped');
    expect(source.underWay).toBe(0);
  });

  it('of no bytes has no pieces', async () => {
    const source = new Source(randomFrom(1));
    await eachPiece(source, { at: 0, length: 0 }, () => {
      throw new Error('there is no piece');
    });
    expect(source.reads).toBe(0);
  });
});
