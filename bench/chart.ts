/**
 * `npm run bench:chart -- FILE.json ...`: a bar chart of the ratios in a file of bench:allreduce or bench:train, as SVG beside it or in
 * the folder of --out. A bar is as long as Lockstep is times as fast as its peer.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Command } from 'commander';
import { z } from 'zod';
import { FORMATS } from './formats.js';
import { sizeText } from './options.js';

const WIDTH = 860;
const LABELS = 270;
const VALUES = 70;
const ROW = 22;
const BAR = 14;
const TOP = 74;
const BOTTOM = 40;
const FASTER = '#2a7f62';
const SLOWER = '#b0672d';

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
const report = z.discriminatedUnion('benchmark', [
  z.object({
    benchmark: z.literal('allreduce'),
    ...head,
    rows: z.array(z.object({ ...shared, elements: z.number() })),
  }),
  z.object({ benchmark: z.literal('train'), ...head, rows: z.array(z.object({ ...shared, parameters: z.number() })) }),
]);
type Report = z.infer<typeof report>;

interface Bar {
  readonly label: string;
  readonly ratio: number;
}

function barsOf({ benchmark, rows }: Report): readonly Bar[] {
  const rest = ({ net, workers, format }: Report['rows'][number]): string => `${format}, ${workers} workers, ${net}`;
  if (benchmark === 'allreduce') {
    return rows.map((row) => ({ label: `${sizeText(row.elements * 4)}, ${rest(row)}`, ratio: row.ratio }));
  }
  return rows.map((row) => ({ label: `${(row.parameters / 1e6).toFixed(0)} M, ${rest(row)}`, ratio: row.ratio }));
}

const TITLES = { allreduce: 'All-reduce', train: 'Training' } as const;

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function text(x: number, y: number, attributes: string, content: string): string {
  return `<text x="${x}" y="${y}" ${attributes}>${escaped(content)}</text>`;
}

/** Ticks of the axis from 0, at most ten. */
function ticksTo(most: number): readonly number[] {
  const step = [0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000].find((one) => most / one <= 10) ?? most;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, index) => Number((index * step).toFixed(2)));
}

function svgOf(from: Report): string {
  const bars = barsOf(from);
  const ticks = ticksTo(Math.max(1.2, ...bars.map(({ ratio }) => ratio)));
  const scale = (WIDTH - LABELS - VALUES) / (ticks.at(-1) ?? 1);
  const at = (ratio: number): number => Number((LABELS + ratio * scale).toFixed(1));
  const end = TOP + bars.length * ROW;
  const { processor, cores } = from.machine;
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${end + BOTTOM}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${end + BOTTOM}" fill="#ffffff"/>`,
    text(
      16,
      26,
      'font-size="16" font-weight="bold"',
      `${TITLES[from.benchmark]}: Lockstep is so many times as fast as ${from.peer}`,
    ),
    text(16, 46, 'fill="#555"', `${processor}, ${cores} cores; PyTorch ${from.torch}; ${from.began.slice(0, 10)}`),
    ...ticks.flatMap((tick) => [
      `<line x1="${at(tick)}" y1="${TOP - 6}" x2="${at(tick)}" y2="${end}" stroke="#ddd"/>`,
      text(at(tick), end + 18, 'text-anchor="middle" fill="#555"', String(tick)),
    ]),
    ...bars.flatMap(({ label, ratio }, index) => {
      const y = TOP + index * ROW;
      const fill = ratio >= 1 ? FASTER : SLOWER;
      return [
        text(LABELS - 8, y + 12, 'text-anchor="end"', label),
        `<rect x="${LABELS}" y="${y}" width="${Number((ratio * scale).toFixed(1))}" height="${BAR}" fill="${fill}"/>`,
        text(at(ratio) + 6, y + 12, 'fill="#333"', `${Number(ratio.toPrecision(3))}x`),
      ];
    }),
    `<line x1="${at(1)}" y1="${TOP - 6}" x2="${at(1)}" y2="${end}" stroke="#333" stroke-dasharray="4 3"/>`,
    '</svg>',
  ];
  return `${lines.join('\n')}\n`;
}

const command = new Command('bench:chart')
  .argument('<files...>', 'JSON of bench:allreduce or bench:train')
  .option('--out <folder>', 'by default beside each file')
  .parse();
const { out }: { readonly out?: string } = command.opts();
for (const path of command.args) {
  try {
    const target = join(out ?? dirname(path), `${basename(path, '.json')}.svg`);
    writeFileSync(target, svgOf(report.parse(JSON.parse(readFileSync(path, 'utf8')))));
    process.stdout.write(`${target}\n`);
  } catch (error) {
    const problem = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    process.stderr.write(`${path}: no chart of this file: ${problem}\n`);
    process.exitCode = 2;
  }
}
