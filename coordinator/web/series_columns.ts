/** Points of a series as the columns that the page draws: means, in few digits. */
import type { SeriesChange } from '../../shared/wire/dashboard.js';
import type { JobSeries, Point } from './series.js';

const DIGITS = 6;

function short(value: number): number {
  return Number(value.toPrecision(DIGITS));
}

/** Numbers that JSON does not know, and means of nothing, are null. */
function finite(value: number): number | null {
  return Number.isFinite(value) ? short(value) : null;
}

export function changeFrom(series: JobSeries, from: number): SeriesChange {
  const points = series.points.slice(from);
  const each = <T>(pick: (point: Point) => T): readonly T[] => points.map(pick);
  return {
    stride: series.stride,
    from,
    columns: {
      step: each((point) => point.step),
      timeMs: each((point) => point.timeMs),
      count: each((point) => point.count),
      loss: each((point) => finite(point.lossSum / point.losses)),
      lossMin: each((point) => finite(point.lossMin)),
      lossMax: each((point) => finite(point.lossMax)),
      stepMs: each((point) => short(point.stepMs / point.count)),
      dataMs: each((point) => short(point.dataMs / point.count)),
      computeMs: each((point) => short(point.computeMs / point.count)),
      reduceMs: each((point) => short(point.reduceMs / point.count)),
      gatherMs: each((point) => short(point.gatherMs / point.count)),
      applyMs: each((point) => short(point.applyMs / point.count)),
      samplesPerSecond: each((point) => finite((point.samples * 1000) / point.stepMs)),
    },
  };
}
