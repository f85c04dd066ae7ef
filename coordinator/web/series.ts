/**
 * The course of a job in a bounded number of points, for charts. Steps are put together in points of `stride` steps; when there are too
 * many points, every two become one and the stride doubles. So a job of a million steps costs as much as one of a few thousand, and
 * what a step costs does not grow.
 */
import type { JobEvent } from '../../shared/wire/jobs.js';

export type StepCommitted = Extract<JobEvent, { kind: 'stepCommitted' }>;

/** Sums over the steps of a point. */
export interface Point {
  /** Which one it is: the step divided by the stride. */
  index: number;
  step: number;
  timeMs: number;
  count: number;
  losses: number;
  lossSum: number;
  lossMin: number;
  lossMax: number;
  stepMs: number;
  dataMs: number;
  computeMs: number;
  reduceMs: number;
  gatherMs: number;
  applyMs: number;
  samples: number;
}

export const SERIES_CAPACITY = 1_024;

export class JobSeries {
  readonly #capacity: number;
  #points: Point[] = [];
  #stride = 1;
  /** The first point that has changed since takeChange(). */
  #changedFrom = 0;

  constructor(capacity = SERIES_CAPACITY) {
    this.#capacity = capacity;
  }

  get points(): readonly Point[] {
    return this.#points;
  }

  get stride(): number {
    return this.#stride;
  }

  add(event: StepCommitted): void {
    const last = this.#points.at(-1);
    if (last !== undefined && event.step <= last.step) this.#goBack(event.step);
    const index = Math.floor(event.step / this.#stride);
    const open = this.#points.at(-1);
    if (open !== undefined && open.index === index) fold(open, event);
    else this.#points.push(pointOf(event, index));
    this.#changedFrom = Math.min(this.#changedFrom, this.#points.length - 1);
    if (this.#points.length > this.#capacity) this.#halve();
  }

  /** Index of the first point that is new or other than at the last call; undefined if none is. */
  takeChange(): number | undefined {
    const from = this.#changedFrom;
    this.#changedFrom = this.#points.length;
    return from < this.#points.length ? from : undefined;
  }

  /** After a restore steps are made again: what was known of them is no more what led to the present state. */
  #goBack(step: number): void {
    const index = Math.floor(step / this.#stride);
    while ((this.#points.at(-1)?.index ?? -1) >= index) this.#points.pop();
    this.#changedFrom = Math.min(this.#changedFrom, this.#points.length);
  }

  #halve(): void {
    this.#stride *= 2;
    const merged: Point[] = [];
    for (const point of this.#points) {
      const index = Math.floor(point.step / this.#stride);
      const open = merged.at(-1);
      if (open !== undefined && open.index === index) merge(open, point);
      else merged.push({ ...point, index });
    }
    this.#points = merged;
    this.#changedFrom = 0;
  }
}

function pointOf(event: StepCommitted, index: number): Point {
  const point: Point = {
    index,
    step: event.step,
    timeMs: event.timeMs,
    count: 0,
    losses: 0,
    lossSum: 0,
    lossMin: Number.POSITIVE_INFINITY,
    lossMax: Number.NEGATIVE_INFINITY,
    stepMs: 0,
    dataMs: 0,
    computeMs: 0,
    reduceMs: 0,
    gatherMs: 0,
    applyMs: 0,
    samples: 0,
  };
  fold(point, event);
  return point;
}

function fold(point: Point, event: StepCommitted): void {
  point.step = event.step;
  point.timeMs = event.timeMs;
  point.count += 1;
  point.stepMs += event.stepMs;
  point.dataMs += event.dataMs ?? 0;
  point.computeMs += event.computeMs;
  point.reduceMs += event.reduceMs;
  point.gatherMs += event.gatherMs ?? 0;
  point.applyMs += event.applyMs;
  point.samples += event.samples;
  if (!Number.isFinite(event.loss)) return;
  point.losses += 1;
  point.lossSum += event.loss;
  point.lossMin = Math.min(point.lossMin, event.loss);
  point.lossMax = Math.max(point.lossMax, event.loss);
}

/** `later` comes after `point`. */
function merge(point: Point, later: Point): void {
  point.step = later.step;
  point.timeMs = later.timeMs;
  point.count += later.count;
  point.losses += later.losses;
  point.lossSum += later.lossSum;
  point.lossMin = Math.min(point.lossMin, later.lossMin);
  point.lossMax = Math.max(point.lossMax, later.lossMax);
  point.stepMs += later.stepMs;
  point.dataMs += later.dataMs;
  point.computeMs += later.computeMs;
  point.reduceMs += later.reduceMs;
  point.gatherMs += later.gatherMs;
  point.applyMs += later.applyMs;
  point.samples += later.samples;
}
