/** Where the time of a step goes: parts on top of each other. */
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import type uPlot from 'uplot';
import type { SeriesColumns } from '../../shared/wire/dashboard.js';
import { msText, msTickText, UNKNOWN } from '../figures.js';
import { axes, Chart, legendValue, type Marker, xOf, xSeries } from './chart.js';
import type { Palette } from './palette.js';

export interface StepTimeChartProps {
  readonly series: SeriesColumns;
  readonly byTime: boolean;
  readonly markers: readonly Marker[];
  readonly palette: Palette;
}

/** What the workers measure, in the order in which it takes place, from the bottom up. */
const PARTS = ['data', 'compute', 'reduce', 'gather', 'apply'] as const;

/** Of the newest point. */
function newestText(series: SeriesColumns): string {
  const parts = PARTS.map((part) => `${part} ${msText(series[`${part}Ms`].at(-1))}`);
  return `${msText(series.stepMs.at(-1))}: ${parts.join(', ')}`;
}

/** Each part with all below it; the last is what none of the others explains. */
function stacked(series: SeriesColumns): readonly number[][] {
  const parts = PARTS.map((part) => series[`${part}Ms`]);
  const rest = series.stepMs.map((whole, index) =>
    Math.max(0, whole - parts.reduce((sum, part) => sum + (part[index] ?? 0), 0)),
  );
  const sums: number[][] = [];
  for (const part of [...parts, rest]) {
    const below = sums.at(-1);
    sums.push(part.map((value, index) => value + (below?.[index] ?? 0)));
  }
  return sums;
}

function layer(label: string, color: string, index: number): uPlot.Series {
  return {
    label,
    stroke: color,
    fill: color,
    width: 0,
    points: { show: false },
    // The legend says how long the part is, not how high its upper edge lies: below it lies the next.
    value: legendValue((upper, plot, at) =>
      upper === null || upper === undefined ? UNKNOWN : msText(upper - (plot.data[index + 1]?.[at] ?? 0)),
    ),
  };
}

export function StepTimeChart({ series, byTime, markers, palette }: StepTimeChartProps): JSX.Element {
  const data = useMemo((): uPlot.AlignedData => {
    // The highest first, so that the lower ones are drawn over it.
    return [xOf(series, byTime), ...[...stacked(series)].reverse()];
  }, [series, byTime]);
  return (
    <Chart
      label={`Time of a step by ${byTime ? 'time' : 'step'} in its parts, now ${newestText(series)}`}
      height={200}
      data={data}
      markers={markers}
      shape={`${byTime} ${palette.text}`}
      options={() => ({
        scales: { x: { time: byTime }, y: { range: (_, __, max) => [0, max * 1.05 || 1] } },
        axes: axes(palette, byTime, msTickText),
        cursor: { points: { show: false }, y: false },
        series: [
          xSeries(byTime),
          layer('rest', palette.rest, 1),
          ...PARTS.toReversed().map((part, index) => layer(part, palette[part], 2 + index)),
        ],
      })}
    />
  );
}
