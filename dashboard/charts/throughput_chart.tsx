/** Samples a second, while steps are made. */
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import type uPlot from 'uplot';
import type { SeriesColumns } from '../../shared/wire/dashboard.js';
import { rateText } from '../figures.js';
import { axes, Chart, legendValue, type Marker, xOf, xSeries } from './chart.js';
import type { Palette } from './palette.js';

export interface ThroughputChartProps {
  readonly series: SeriesColumns;
  readonly byTime: boolean;
  readonly markers: readonly Marker[];
  readonly palette: Palette;
}

export function ThroughputChart({ series, byTime, markers, palette }: ThroughputChartProps): JSX.Element {
  const data = useMemo((): uPlot.AlignedData => [xOf(series, byTime), [...series.samplesPerSecond]], [series, byTime]);
  const last = series.samplesPerSecond.at(-1) ?? null;
  return (
    <Chart
      label={`Samples a second by ${byTime ? 'time' : 'step'}, now ${rateText(last)}`}
      height={200}
      data={data}
      markers={markers}
      shape={`${byTime} ${palette.text}`}
      options={() => ({
        scales: { x: { time: byTime }, y: { range: (_, __, max) => [0, max * 1.1 || 1] } },
        axes: axes(palette, byTime, (value) => value.toLocaleString('en')),
        cursor: { points: { size: 6 }, y: false },
        series: [
          xSeries(byTime),
          {
            label: 'samples/s',
            stroke: palette.accent,
            width: 1.5,
            points: { show: false },
            value: legendValue((value) => rateText(value ?? null)),
          },
        ],
      })}
    />
  );
}
