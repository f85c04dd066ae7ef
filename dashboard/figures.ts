/** Figures as the page shows them; a dash for what is not known. */
import { formatBytes, formatBytesOf, formatDuration, formatRate } from '../shared/text/numbers.js';

export const UNKNOWN = '–';

/** Nobody wants to know less exactly. */
const SHORTEST_MS = 0.005;

export function lossText(loss: number | null | undefined): string {
  if (loss === null || loss === undefined) return UNKNOWN;
  const size = Math.abs(loss);
  return size !== 0 && (size < 0.001 || size >= 10_000) ? loss.toExponential(3) : loss.toFixed(4);
}

export function rateText(perSecond: number | null): string {
  return perSecond === null ? UNKNOWN : formatRate(perSecond);
}

export function secondsText(seconds: number | null): string {
  return seconds === null ? UNKNOWN : formatDuration(seconds);
}

export function msText(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return UNKNOWN;
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < SHORTEST_MS) return '0 ms';
  return `${ms >= 99.5 ? Math.round(ms) : ms.toPrecision(ms < 1 ? 1 : 2)} ms`;
}

/** Of a tick, in as many digits as tell it from the next: ticks are round numbers, but for what binary fractions add to them. */
const TICK_DIGITS = 12;

export function tickText(value: number): string {
  return String(Number(value.toPrecision(TICK_DIGITS)));
}

export function msTickText(ms: number): string {
  return ms >= 10_000 ? `${tickText(ms / 1000)} s` : `${tickText(ms)} ms`;
}

/** Whole percents, and parts of one at the beginning of what is long. */
export function shareText(done: number, all: number): string {
  const percent = (100 * done) / all;
  return `${percent < 1 ? Number(percent.toFixed(2)) : Math.floor(percent)} %`;
}

export function bytesText(bytes: number | null): string {
  return bytes === null ? UNKNOWN : formatBytes(bytes);
}

/** "4.1 of 33 GB" */
export function bytesOfText(used: number | null, all: number | null): string {
  return used === null || all === null ? UNKNOWN : formatBytesOf(used, all);
}

export function countText(count: number): string {
  return count.toLocaleString('en');
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: '2-digit', month: 'short', hour: '2-digit', minute: '2-digit' });
const DAY_MS = 86_400_000;

function clockText(timeMs: number): string {
  return clock.format(timeMs);
}

function dayText(timeMs: number): string {
  return day.format(timeMs);
}

/** As all times of a stretch are said: with the day if it is longer than one, as each time of day comes again then. */
export function timeTextIn(fromMs: number, toMs: number): (timeMs: number) => string {
  return toMs - fromMs > DAY_MS ? dayText : clockText;
}

/** The time of today, the day of what is older. */
export function dateText(timeMs: number, nowMs: number): string {
  return nowMs - timeMs < DAY_MS ? clockText(timeMs) : dayText(timeMs);
}

export function isoText(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
