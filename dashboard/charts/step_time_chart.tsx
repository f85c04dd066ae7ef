/** Where the time of a step goes: parts on top of each other. */
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import type uPlot from 'uplot';
import type { SeriesColumns } from '../../shared/wire/dashboard.js';
import { msText, UNKNOWN } from '../figures.js';
import { axes, Chart, legendValue, type Marker, xOf, xSeries } from './chart.js';
import type { Palette } from './palette.js';

export interface StepTimeChartProps {
  readonly series: SeriesColumns;
  readonly byTime: boolean;
  readonly markers: readonly Marker[];
  readonly palette: Palette;
}

interface StepParts {
  readonly compute: readonly number[];
  readonly reduce: readonly number[];
  readonly apply: readonly number[];
  /** What none of the others explains. */
  readonly rest: readonly number[];
}

function partsOf(series: SeriesColumns): StepParts {
  const { stepMs, computeMs, reduceMs, applyMs } = series;
  const rest = stepMs.map((whole, index) =>
    Math.max(0, whole - (computeMs[index] ?? 0) - (reduceMs[index] ?? 0) - (applyMs[index] ?? 0)),
  );
  return { compute: computeMs, reduce: reduceMs, apply: applyMs, rest };
}

/** Each part with all below it. */
function stacked({ compute, reduce, apply, rest }: StepParts): readonly number[][] {
  const sums: number[][] = [];
  for (const part of [compute, reduce, apply, rest]) {
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
    return [xOf(series, byTime), ...[...stacked(partsOf(series))].reverse()];
  }, [series, byTime]);
  const last = series.stepMs.at(-1);
  return (
    <Chart
      label={`Time of a step by ${byTime ? 'time' : 'step'}: compute, reduce, apply and the rest; now ${msText(last)}`}
      height={200}
      data={data}
      markers={markers}
      shape={`${byTime} ${palette.text}`}
      options={() => ({
        scales: { x: { time: byTime }, y: { range: (_, __, max) => [0, max * 1.05 || 1] } },
        axes: axes(palette, byTime, msText),
        cursor: { points: { show: false }, y: false },
        series: [
          xSeries(byTime),
          layer('rest', palette.rest, 1),
          layer('apply', palette.apply, 2),
          layer('reduce', palette.reduce, 3),
          layer('compute', palette.compute, 4),
        ],
      })}
    />
  );
}
