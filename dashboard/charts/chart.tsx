/** A uPlot chart as a component: as wide as its place, drawn anew only when its shape changes, given new data otherwise. */
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { timeTextIn, UNKNOWN } from '../figures.js';
import { axisWidth } from './axis_width.js';
import type { Palette } from './palette.js';

export interface Marker {
  /** On the x axis. */
  readonly at: number;
  readonly color: string;
  readonly text: string;
}

export interface ChartProps {
  /** What the chart shows, for those who do not see it. */
  readonly label: string;
  readonly height: number;
  readonly data: uPlot.AlignedData;
  readonly markers?: readonly Marker[];
  /** Made anew when `shape` changes. */
  readonly shape: string;
  readonly options: () => Omit<uPlot.Options, 'width' | 'height'>;
}

export function Chart({ label, height, data, markers = [], shape, options }: ChartProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | undefined>(undefined);
  const marked = useRef(markers);
  marked.current = markers;
  const shown = useRef(data);
  shown.current = data;

  // `shape` says when the options are others.
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const given = options();
    const drawn = new uPlot(
      {
        ...given,
        width: element.clientWidth,
        height,
        hooks: { ...given.hooks, draw: [(plot) => drawMarkers(plot, marked.current)] },
      },
      shown.current,
      element,
    );
    chart.current = drawn;
    const resized = new ResizeObserver(() => {
      if (element.clientWidth !== drawn.width) drawn.setSize({ width: element.clientWidth, height });
    });
    resized.observe(element);
    return () => {
      resized.disconnect();
      drawn.destroy();
      chart.current = undefined;
    };
  }, [shape, height]);

  useEffect(() => {
    if (chart.current !== undefined) showData(chart.current, data);
  }, [data]);

  return <div class="chart" role="img" aria-label={label} ref={place} />;
}

/** What somebody has drawn nearer stays where it is while more comes; a double click shows all again. */
function showData(plot: uPlot, data: uPlot.AlignedData): void {
  const { min = null, max = null } = plot.scales['x'] ?? {};
  const [first, last] = [plot.data[0][0], plot.data[0].at(-1)];
  const isNear = min !== null && max !== null && ((first ?? min) < min || (last ?? max) > max);
  plot.setData(data, !isNear);
  if (isNear) plot.setScale('x', { min, max });
}

function drawMarkers(plot: uPlot, markers: readonly Marker[]): void {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.lineWidth = ratio;
  ctx.textAlign = 'left';
  ctx.textBaseline = 'alphabetic';
  ctx.setLineDash([3 * ratio, 3 * ratio]);
  ctx.font = `${10 * ratio}px system-ui, sans-serif`;
  let textEnds = Number.NEGATIVE_INFINITY;
  for (const { at, color, text } of markers) {
    const x = Math.round(plot.valToPos(at, 'x', true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = color;
    ctx.fillStyle = color;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    // Where many are close together, the first is named.
    const width = ctx.measureText(text).width + 6 * ratio;
    if (x < textEnds || x + width > bbox.left + bbox.width) continue;
    ctx.fillText(text, x + 4 * ratio, bbox.top + 10 * ratio);
    textEnds = x + width;
  }
  ctx.restore();
}

/** Axes as all charts have them. */
export function axes(palette: Palette, byTime: boolean, values: (value: number) => string): uPlot.Axis[] {
  const both = {
    stroke: palette.text,
    font: palette.font,
    grid: { stroke: palette.grid, width: 1 },
    ticks: { stroke: palette.grid, width: 1, size: 4 },
  };
  const x: uPlot.Axis = byTime
    ? { ...both, size: 28, space: 80, values: (_, splits) => timeTicks(splits) }
    : { ...both, size: 28, space: 60, values: (_, splits) => splits.map(stepTick), incrs: WHOLE };
  return [
    x,
    {
      ...both,
      size: (_, labels) => axisWidth(labels),
      space: 34,
      values: (_, splits) => splits.map((one) => (one === null ? '' : values(one))),
    },
  ];
}

function timeTicks(seconds: readonly number[]): string[] {
  const text = timeTextIn((seconds[0] ?? 0) * 1000, (seconds.at(-1) ?? 0) * 1000);
  return seconds.map((one) => text(one * 1000));
}

const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7];

function stepTick(step: number): string {
  if (step >= 1e6) return `${step / 1e6}M`;
  return step >= 10_000 ? `${step / 1000}k` : String(step);
}

/** What the legend says of a series: where the cursor is, and of the newest point while there is no cursor. */
export function legendValue(
  text: (value: number | null | undefined, plot: uPlot, at: number) => string,
): uPlot.Series.Value {
  return (plot, _, series, index) => {
    const at = index ?? plot.data[0].length - 1;
    return text(plot.data[series]?.[at], plot, at);
  };
}

/** The x axis as the first of the series. */
export function xSeries(byTime: boolean): uPlot.Series {
  const text = (x: number | null | undefined, plot: uPlot): string => {
    if (x === null || x === undefined) return UNKNOWN;
    if (!byTime) return x.toLocaleString('en');
    const all = plot.data[0];
    return timeTextIn((all[0] ?? x) * 1000, (all.at(-1) ?? x) * 1000)(x * 1000);
  };
  return { label: byTime ? 'time' : 'step', value: legendValue(text) };
}

/** What the x axis shows: the number of committed steps, or the time in seconds as uPlot wants it. */
export function xOf(series: { readonly step: readonly number[]; readonly timeMs: readonly number[] }, byTime: boolean) {
  return byTime ? series.timeMs.map((ms) => ms / 1000) : series.step.map((step) => step + 1);
}
