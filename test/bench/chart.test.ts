import { describe, expect, it } from 'vitest';
import { ZodError } from 'zod';
import { chartOf } from '../../bench/chart/chart_of.js';
import { machine } from './made_up.js';

const control = {
  benchmark: 'control',
  machine,
  began: '2030-01-02T03:04:05.678Z',
  stepMs: 1000,
  rows: [
    { workers: 10, coordinatorCorePercent: 2.5, residentMb: 100, lossToStartMs: { median: 20, most: 50 } },
    { workers: 1000, coordinatorCorePercent: 40, residentMb: 200, lossToStartMs: { median: 60, most: 100 } },
  ],
};
const train = {
  benchmark: 'train',
  peer: 'DDP',
  machine,
  torch: '2',
  began: '2030-01-02T03:04:05.678Z',
  rows: [0.5, 2].map((ratio) => ({
    net: 'netns',
    workers: 2,
    format: 'bf16',
    peerType: 'float32',
    ratio,
    parameters: 25e6,
  })),
};

/** In order of their lines: lengths of the bars, and their colours. */
function barsIn(svg: string): readonly (readonly [number, string])[] {
  const bars = svg.matchAll(/<rect x="\d+" y="\d+" width="([\d.]+)" height="14" fill="(#\w+)"/g);
  return [...bars].map(([, width, fill]) => [Number(width), fill ?? '']);
}

const textsIn = (svg: string): readonly string[] =>
  [...svg.matchAll(/>([^<\n]+)<\/text>/g)].map(([, text]) => text ?? '');

describe('the chart of bench:control', () => {
  const svg = chartOf(control);

  it('has bars of changes, processor and memory for each number of workers, each to its own scale', () => {
    const bars = barsIn(svg);
    const [median, longest] = [bars[0]?.[1], bars[1]?.[1]];
    expect(median).not.toBe(longest);
    const ofLongest = [20, 50, 60, 100].map((ms) => ms / 100);
    const full = 520;
    expect(bars.map(([width]) => width)).toEqual([...ofLongest, 2.5 / 40, 1, 0.5, 1].map((share) => share * full));
    expect(bars.map(([, fill]) => fill)).toEqual([median, longest, median, longest, median, median, median, median]);
  });

  it('says how many workers, how much, where and when', () => {
    const texts = textsIn(svg);
    expect(texts).toEqual(expect.arrayContaining(['1000 workers, longest', '100 ms', '10 workers', '2.5 %', '200 MB']));
    expect(texts).toContain('R&amp;D &lt;1&gt;, 2 cores; each job makes a step in 1000 ms; 2030-01-02');
  });

  it('is as high as its bars need', () => {
    const heightOf = (one: string): number => Number(/viewBox="0 0 860 (\d+)"/.exec(one)?.[1]);
    const lowest = Math.max(...[...svg.matchAll(/ y="(\d+)"/g)].map(([, y]) => Number(y)));
    expect(heightOf(svg)).toBeGreaterThan(lowest);
    expect(heightOf(svg)).toBeGreaterThan(heightOf(chartOf({ ...control, rows: control.rows.slice(0, 1) })));
  });
});

describe('the chart of ratios', () => {
  it('has a bar for each row, in a colour of its own where Lockstep is slower', () => {
    const svg = chartOf(train);
    const [slower, faster] = barsIn(svg);
    expect(barsIn(svg)).toHaveLength(2);
    expect(faster?.[0]).toBe(4 * (slower?.[0] ?? 0));
    expect(faster?.[1]).not.toBe(slower?.[1]);
    expect(textsIn(svg)).toEqual(expect.arrayContaining(['25 M, bf16, 2 workers, netns', '0.5x', '2x']));
  });
});

describe('no chart', () => {
  it.each([
    ['another benchmark', { ...control, benchmark: 'schedule' }],
    ['a text for a number', { ...control, rows: [{ ...control.rows[0], residentMb: '100' }] }],
    ['a number below 0', { ...control, rows: [{ ...control.rows[0], coordinatorCorePercent: -1 }] }],
    ['no rows', { ...control, rows: [] }],
  ])('is made of %s', (_, report) => {
    expect(() => chartOf(report)).toThrow(ZodError);
  });
});
