/** The loss: each point as it was, and smoothed. */
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import type uPlot from 'uplot';
import type { SeriesColumns } from '../../shared/wire/dashboard.js';
import { lossText, tickText } from '../figures.js';
import { axes, Chart, legendValue, type Marker, xOf, xSeries } from './chart.js';
import type { Palette } from './palette.js';
import { smoothed } from './smooth.js';

export interface LossChartProps {
  readonly series: SeriesColumns;
  /** Steps of a point. */
  readonly stride: number;
  readonly byTime: boolean;
  readonly log: boolean;
  /** Weight of the past in the smoothed curve, 0 to 1. */
  readonly smoothing: number;
  readonly markers: readonly Marker[];
  readonly palette: Palette;
}

/** A logarithm has no place for what is not above 0. */
function shownLoss(values: readonly (number | null)[], log: boolean): (number | null)[] {
  return values.map((value) => (value !== null && log && value <= 0 ? null : value));
}

/** As much as there is, instead of whole powers of ten. */
function logRange(_: uPlot, min: number | null, max: number | null): uPlot.Range.MinMax {
  return [(min ?? 1) * 0.95, (max ?? 10) * 1.05];
}

/** The lowest tick is the edge, which is no round number. */
function logTickText(value: number): string {
  return String(Number(value.toPrecision(3)));
}

export function LossChart({ series, stride, byTime, log, smoothing, markers, palette }: LossChartProps): JSX.Element {
  const data = useMemo((): uPlot.AlignedData => {
    const raw = shownLoss(series.loss, log);
    return [
      xOf(series, byTime),
      shownLoss(series.lossMin, log),
      shownLoss(series.lossMax, log),
      raw,
      [...smoothed(raw, smoothing)],
    ];
  }, [series, byTime, log, smoothing]);
  const first = series.loss.find((value) => value !== null);
  const last = series.loss.findLast((value) => value !== null);
  const label = `Loss by ${byTime ? 'time' : 'step'}, ${series.step.length} points, from ${lossText(first)} to ${lossText(last)}`;
  // Points of one step have no band.
  const bandClass = stride > 1 ? 'band' : 'no-band';
  const hasSmooth = smoothing > 0;
  return (
    <Chart
      label={label}
      height={260}
      data={data}
      markers={markers}
      shape={`${byTime} ${log} ${hasSmooth} ${bandClass} ${palette.text}`}
      options={() => ({
        scales: { x: { time: byTime }, y: log ? { distr: 3, range: logRange } : {} },
        axes: axes(palette, byTime, log ? logTickText : tickText),
        cursor: { points: { size: 6 }, y: false },
        legend: { live: true },
        bands: [{ series: [2, 1], fill: palette.accentFaint }],
        series: [
          xSeries(byTime),
          {
            label: 'lowest',
            class: bandClass,
            stroke: 'transparent',
            points: { show: false },
            value: legendValue(lossText),
          },
          {
            label: 'highest',
            class: bandClass,
            stroke: 'transparent',
            points: { show: false },
            value: legendValue(lossText),
          },
          {
            label: 'loss',
            stroke: hasSmooth ? palette.accentFaint : palette.accent,
            width: hasSmooth ? 1 : 1.5,
            points: { show: false },
            value: legendValue(lossText),
          },
          {
            label: 'smoothed',
            stroke: palette.accent,
            width: 2,
            show: hasSmooth,
            points: { show: false },
            value: legendValue(lossText),
          },
        ],
      })}
    />
  );
}
