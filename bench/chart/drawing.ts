/** What the charts of the benchmarks are drawn with: text, bars and axes, as SVG. */

export const WIDTH = 860;
export const LABELS = 270;
const VALUES = 70;
export const ROW = 22;
const BAR = 14;
const AXIS_ABOVE = 6;
const NUMBERS_BELOW = 18;

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** Of `value`, beside the bar. */
  readonly text: string;
  readonly fill: string;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

export function text(x: number, y: number, attributes: string, content: string): string {
  return `<text x="${x}" y="${y}" ${attributes}>${escaped(content)}</text>`;
}

/** Ticks of the axis from 0, at most ten. */
function ticksTo(most: number): readonly number[] {
  const step = [0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((one) => most / one <= 10) ?? most;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, index) => Number((index * step).toFixed(2)));
}

export interface Axis {
  readonly ticks: readonly number[];
  readonly lengthOf: (value: number) => number;
  readonly at: (value: number) => number;
}

/** It reaches to `least`, or further if a bar does. */
export function axisFor(bars: readonly Bar[], least: number): Axis {
  const ticks = ticksTo(Math.max(least, ...bars.map(({ value }) => value)));
  const scale = (WIDTH - LABELS - VALUES) / (ticks.at(-1) ?? 1);
  return {
    ticks,
    lengthOf: (value) => Number((value * scale).toFixed(1)),
    at: (value) => Number((LABELS + value * scale).toFixed(1)),
  };
}

/** The bars below each other from `top`, on lines of the axis with its numbers below. */
export function barLines(bars: readonly Bar[], axis: Axis, top: number): readonly string[] {
  const end = top + bars.length * ROW;
  return [
    ...axis.ticks.flatMap((tick) => [
      `<line x1="${axis.at(tick)}" y1="${top - AXIS_ABOVE}" x2="${axis.at(tick)}" y2="${end}" stroke="#ddd"/>`,
      text(axis.at(tick), end + NUMBERS_BELOW, 'text-anchor="middle" fill="#555"', String(tick)),
    ]),
    ...bars.flatMap(({ label, value, text: beside, fill }, index) => {
      const y = top + index * ROW;
      return [
        text(LABELS - 8, y + 12, 'text-anchor="end"', label),
        `<rect x="${LABELS}" y="${y}" width="${axis.lengthOf(value)}" height="${BAR}" fill="${fill}"/>`,
        text(axis.at(value) + 6, y + 12, 'fill="#333"', beside),
      ];
    }),
  ];
}

/** A line across the bars at a value that matters. */
export function markLine(axis: Axis, value: number, top: number, end: number): string {
  const x = axis.at(value);
  return `<line x1="${x}" y1="${top - AXIS_ABOVE}" x2="${x}" y2="${end}" stroke="#333" stroke-dasharray="4 3"/>`;
}

export interface Page {
  readonly height: number;
  readonly title: string;
  /** Where and when it was measured. */
  readonly origin: string;
  readonly lines: readonly string[];
}

export function svgOf({ height, title, origin, lines }: Page): string {
  const all = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(16, 26, 'font-size="16" font-weight="bold"', title),
    text(16, 46, 'fill="#555"', origin),
    ...lines,
    '</svg>',
  ];
  return `${all.join('\n')}\n`;
}
