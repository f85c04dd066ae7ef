/** Repeated measurements of one thing, summed up. */
import { medianOf } from '../shared/median.js';

export interface Figures {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  /** One a repetition, in order. */
  readonly all: readonly number[];
}

export function figuresOf(measured: readonly number[]): Figures {
  const all = measured.map((value) => Number(value.toPrecision(6)));
  return { median: medianOf(all), least: Math.min(...all), most: Math.max(...all), all };
}

/** Four significant digits are more than any of this is exact to. */
export function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}

export function figuresText({ median, least, most }: Figures): string {
  return `${short(median)} (${short(least)} - ${short(most)})`;
}
