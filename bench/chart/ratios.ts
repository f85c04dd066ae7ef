/** The ratios of bench:allreduce and bench:train: a bar is as long as Lockstep is times as fast as its peer. */
import { z } from 'zod';
import { FORMATS } from '../formats.js';
import { sizeText } from '../options.js';
import { axisFor, type Bar, barLines, markLine, ROW, svgOf } from './drawing.js';

const TOP = 74;
const BOTTOM = 40;
const LEAST_AXIS = 1.2;
const FASTER = '#2a7f62';
const SLOWER = '#b0672d';
const TITLES = { allreduce: 'All-reduce', train: 'Training' } as const;

const shared = {
  net: z.string(),
  workers: z.number(),
  format: z.enum(FORMATS),
  peerType: z.string(),
  ratio: z.number(),
};
const head = {
  peer: z.string(),
  machine: z.object({ processor: z.string(), cores: z.number() }),
  torch: z.string(),
  began: z.string(),
};
export const allreduceReport = z.object({
  benchmark: z.literal('allreduce'),
  ...head,
  rows: z.array(z.object({ ...shared, elements: z.number() })),
});
export const trainReport = z.object({
  benchmark: z.literal('train'),
  ...head,
  rows: z.array(z.object({ ...shared, parameters: z.number() })),
});
type Report = z.infer<typeof allreduceReport> | z.infer<typeof trainReport>;

function barOf(what: string, { net, workers, format, ratio }: Report['rows'][number]): Bar {
  return {
    label: `${what}, ${format}, ${workers} workers, ${net}`,
    value: ratio,
    text: `${Number(ratio.toPrecision(3))}x`,
    fill: ratio >= 1 ? FASTER : SLOWER,
  };
}

function barsOf({ benchmark, rows }: Report): readonly Bar[] {
  if (benchmark === 'allreduce') return rows.map((row) => barOf(sizeText(row.elements * 4), row));
  return rows.map((row) => barOf(`${(row.parameters / 1e6).toFixed(0)} M`, row));
}

export function ratiosChart(report: Report): string {
  const { benchmark, peer, machine, torch, began } = report;
  const bars = barsOf(report);
  const axis = axisFor(bars, LEAST_AXIS);
  const end = TOP + bars.length * ROW;
  return svgOf({
    height: end + BOTTOM,
    title: `${TITLES[benchmark]}: Lockstep is so many times as fast as ${peer}`,
    origin: `${machine.processor}, ${machine.cores} cores; PyTorch ${torch}; ${began.slice(0, 10)}`,
    lines: [...barLines(bars, axis, TOP), markLine(axis, 1, TOP, end)],
  });
}
