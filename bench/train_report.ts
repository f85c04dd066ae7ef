/** What bench:train tells: rows of a table, and the same as JSON. */
import Table from 'cli-table3';
import { type Figures, figuresText, short } from './figures.js';
import type { Format } from './formats.js';
import type { Machine } from './machine.js';
import type { Net } from './nets.js';
import type { ModelName } from './train_setup.js';

export interface TrainCell {
  readonly net: Net;
  readonly workers: number;
  readonly model: ModelName;
  /** What Lockstep sends. */
  readonly format: Format;
  /** What DistributedDataParallel sends. */
  readonly peerType: string;
}

export interface Measured extends TrainCell {
  readonly parameters: number;
  /** Samples of one step, over all workers. */
  readonly batch: number;
  /** Measured in each run. */
  readonly steps: number;
  /** Steps a second. */
  readonly lockstep: Figures;
  readonly ddp: Figures;
  /** Lockstep's median by DistributedDataParallel's: above 1 Lockstep is the faster one. */
  readonly ratio: number;
  /** Of the last step. */
  readonly lossLockstep: number;
  readonly lossDdp: number;
  readonly loadBefore: number;
  readonly loadAfter: number;
}

export interface TrainReport {
  readonly benchmark: 'train';
  readonly peer: 'DDP with Gloo';
  readonly machine: Machine;
  readonly torch: string;
  readonly began: string;
  readonly pairs: number;
  readonly warmUp: number;
  readonly rows: readonly Measured[];
}

export function nameOf({ net, workers, model, format }: TrainCell): string {
  return `${net}, ${workers} workers, ${model} as ${format}`;
}

export function lineOf(row: Measured): string {
  const { lockstep, ddp, ratio, loadBefore, loadAfter } = row;
  return (
    `${nameOf(row)}: ${figuresText(lockstep)} steps/s, DDP ${figuresText(ddp)} steps/s, ratio ${short(ratio)}; ` +
    `load ${loadBefore.toFixed(2)} to ${loadAfter.toFixed(2)}`
  );
}

export function tableOf({ rows }: TrainReport): string {
  const table = new Table({
    head: ['net', 'workers', 'parameters', 'batch', 'sent as', 'Lockstep steps/s', 'DDP steps/s', 'Lockstep / DDP'],
    colAligns: ['left', 'right', 'right', 'right', 'left', 'right', 'right', 'right'],
    style: { head: [], border: [] },
  });
  for (const { net, workers, parameters, batch, format, peerType, lockstep, ddp, ratio } of rows) {
    const sent = `${format}; DDP ${peerType}`;
    const millions = `${(parameters / 1e6).toFixed(2)} M`;
    table.push([net, workers, millions, batch, sent, figuresText(lockstep), figuresText(ddp), short(ratio)]);
  }
  return table.toString();
}
