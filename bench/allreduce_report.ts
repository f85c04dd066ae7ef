/** What bench:allreduce tells: rows of a table, and the same as JSON. */
import Table from 'cli-table3';
import { type Figures, figuresText, short } from './figures.js';
import type { Format } from './formats.js';
import type { Machine } from './machine.js';
import type { Net } from './nets.js';
import { sizeText } from './options.js';

export interface Cell {
  readonly net: Net;
  readonly workers: number;
  /** What Lockstep sends. */
  readonly format: Format;
  /** The tensor's type of Gloo. */
  readonly peerType: string;
  readonly elements: number;
}

export interface Measured extends Cell {
  /** Milliseconds. */
  readonly lockstep: Figures;
  readonly gloo: Figures;
  /** Gloo's median by Lockstep's: above 1 Lockstep is the faster one. */
  readonly ratio: number;
  /** All-reduces of one repetition; their median counts. */
  readonly reducesEach: number;
  /** Times that a pull of Lockstep failed and was made again. */
  readonly failures: number;
  readonly loadBefore: number;
  readonly loadAfter: number;
}

export interface Skipped extends Cell {
  readonly skipped: string;
}

export interface AllReduceReport {
  readonly benchmark: 'allreduce';
  readonly peer: 'Gloo';
  readonly machine: Machine;
  readonly torch: string;
  readonly began: string;
  readonly repetitions: number;
  /** Lockstep's side was encrypted. */
  readonly tls?: boolean;
  readonly rows: readonly Measured[];
  readonly skipped: readonly Skipped[];
}

export function isMeasured(row: Measured | Skipped): row is Measured {
  return !('skipped' in row);
}

export function nameOf({ net, workers, format, elements }: Cell): string {
  return `${net}, ${workers} workers, ${sizeText(elements * 4)} as ${format}`;
}

export function tableOf({ rows }: AllReduceReport): string {
  const table = new Table({
    head: ['net', 'workers', 'fp32 size', 'sent as', 'Lockstep ms', 'Gloo ms', 'Gloo / Lockstep'],
    colAligns: ['left', 'right', 'right', 'left', 'right', 'right', 'right'],
    style: { head: [], border: [] },
  });
  for (const { net, workers, elements, format, peerType, lockstep, gloo, ratio } of rows) {
    const sent = `${format}; Gloo ${peerType}`;
    table.push([net, workers, sizeText(elements * 4), sent, figuresText(lockstep), figuresText(gloo), short(ratio)]);
  }
  return table.toString();
}
