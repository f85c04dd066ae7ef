/** What bench:control measured for each number of workers: the time of a change, the coordinator's processor and memory. */
import { z } from 'zod';
import { axisFor, type Bar, barLines, ROW, svgOf, text } from './drawing.js';

const TOP = 62;
/** Of a panel: its title, and the numbers of its axis. */
const PANEL_HEAD = 26;
const PANEL_FOOT = 34;
const LEAST_AXIS = 1;
const TYPICAL = '#2a7f62';
const LONGEST = '#b0672d';

const row = z.object({
  workers: z.number(),
  coordinatorCorePercent: z.number().nonnegative(),
  residentMb: z.number().nonnegative(),
  lossToStartMs: z.object({ median: z.number().nonnegative(), most: z.number().nonnegative() }),
});
export const controlReport = z.object({
  benchmark: z.literal('control'),
  machine: z.object({ processor: z.string(), cores: z.number() }),
  began: z.string(),
  stepMs: z.number(),
  rows: z.array(row).min(1),
});
type Report = z.infer<typeof controlReport>;
type Row = Report['rows'][number];

interface Panel {
  readonly title: string;
  readonly barsOf: (row: Row) => readonly Bar[];
}

function barOf(label: string, value: number, unit: string, fill = TYPICAL): Bar {
  return { label, value, text: `${Number(value.toPrecision(3))} ${unit}`, fill };
}

const PANELS: readonly Panel[] = [
  {
    title: 'A worker is lost: until the last member starts the next generation, ms',
    barsOf: ({ workers, lossToStartMs }) => [
      barOf(`${workers} workers, median`, lossToStartMs.median, 'ms'),
      barOf(`${workers} workers, longest`, lossToStartMs.most, 'ms', LONGEST),
    ],
  },
  {
    title: 'The coordinator in the steady state, % of a core',
    barsOf: ({ workers, coordinatorCorePercent }) => [barOf(`${workers} workers`, coordinatorCorePercent, '%')],
  },
  {
    title: "The coordinator's resident memory in the steady state, MB",
    barsOf: ({ workers, residentMb }) => [barOf(`${workers} workers`, residentMb, 'MB')],
  },
];

export function controlChart({ machine, began, stepMs, rows }: Report): string {
  const lines: string[] = [];
  let y = TOP;
  for (const { title, barsOf } of PANELS) {
    const bars = rows.flatMap(barsOf);
    const top = y + PANEL_HEAD;
    lines.push(text(16, y + 12, 'font-weight="bold"', title), ...barLines(bars, axisFor(bars, LEAST_AXIS), top));
    y = top + bars.length * ROW + PANEL_FOOT;
  }
  return svgOf({
    height: y,
    title: 'Control plane: one coordinator and simulated workers',
    origin: `${machine.processor}, ${machine.cores} cores; each job makes a step in ${stepMs} ms; ${began.slice(0, 10)}`,
    lines,
  });
}
