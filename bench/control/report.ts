/** What bench:control tells: columns of a table, and the same as JSON. */
import Table from 'cli-table3';
import { type Figures, figuresOf } from '../figures.js';
import type { Machine } from '../machine.js';
import type { Measured } from './measure.js';

/** What is asked for, the same for every number of workers. */
export interface ControlSetup {
  readonly stepMs: number;
  /** Of the steady state. */
  readonly seconds: number;
  /** Workers that are lost one after the other. */
  readonly changes: number;
}

interface Load {
  readonly loadBefore: number;
  readonly loadAfter: number;
}

/** One number of workers. */
export interface ControlRow extends Load {
  readonly workers: number;
  readonly jobs: number;
  readonly setUpMs: number;
  readonly coordinatorCorePercent: number;
  readonly etcdCorePercent: number;
  readonly simulatedWorkersCorePercent: number;
  readonly residentMb: number;
  readonly peakMb: number;
  readonly messagesFromWorkersPerSecond: number;
  readonly messagesToWorkersPerSecond: number;
  /** How late the coordinator's event loop was in the steady state. */
  readonly loopDelayMs: { readonly mean: number; readonly p99: number; readonly most: number };
  readonly lossToStartMs: Figures;
  readonly lossToPrepareMs: Figures;
  /** By the coordinator's own events. */
  readonly noticedToStartedMs: Figures;
  readonly loadedToStartMs: Figures;
  readonly massVanished: number;
  readonly massLossToStartMs: number;
  readonly massReturnMs: number;
  readonly loopDelayInChangesMs: { readonly p99: number; readonly most: number };
  readonly steps: number;
}

export interface ControlReport extends ControlSetup {
  readonly benchmark: 'control';
  readonly machine: Machine;
  readonly began: string;
  readonly rows: readonly ControlRow[];
}

const round = (value: number, digits = 0): number => Number(value.toFixed(digits));

const percent = (share: number): number => round(share * 100, 1);

export function rowOf({ steady, changes, mass, ...measured }: Measured, load: Load): ControlRow {
  return {
    workers: measured.workers,
    jobs: measured.jobs,
    setUpMs: round(measured.setUpMs),
    coordinatorCorePercent: percent(steady.coordinatorCpu),
    etcdCorePercent: percent(steady.etcdCpu),
    simulatedWorkersCorePercent: percent(steady.workersCpu),
    residentMb: round(steady.residentMb),
    peakMb: round(measured.peakMb),
    messagesFromWorkersPerSecond: round(steady.fromWorkers),
    messagesToWorkersPerSecond: round(steady.toWorkers),
    loopDelayMs: {
      mean: round(steady.loopDelay.meanMs, 1),
      p99: round(steady.loopDelay.p99Ms, 1),
      most: round(steady.loopDelay.maxMs, 1),
    },
    lossToStartMs: figuresOf(changes.map((one) => one.lossMs)),
    lossToPrepareMs: figuresOf(changes.map((one) => one.prepareMs)),
    noticedToStartedMs: figuresOf(measured.coordinatorMs),
    loadedToStartMs: figuresOf(changes.map((one) => one.joinMs)),
    massVanished: mass.vanished,
    massLossToStartMs: round(mass.lossMs),
    massReturnMs: round(mass.joinMs),
    loopDelayInChangesMs: { p99: round(measured.loopDelay.p99Ms, 1), most: round(measured.loopDelay.maxMs, 1) },
    steps: measured.steps,
    ...load,
  };
}

const spread = ({ median, most }: Figures): string => `${round(median)}; ${round(most)} ms`;

const LINES: readonly (readonly [string, (row: ControlRow) => string])[] = [
  ['jobs', (row) => String(row.jobs)],
  ['coordinator, of one core', (row) => `${row.coordinatorCorePercent} %`],
  ['  resident memory; most in the run', (row) => `${row.residentMb} MB; ${row.peakMb} MB`],
  [
    '  messages a second, from workers; to them',
    (row) => `${row.messagesFromWorkersPerSecond}; ${row.messagesToWorkersPerSecond}`,
  ],
  ['  event loop late, mean; 99 %; most', ({ loopDelayMs: { mean, p99, most } }) => `${mean}; ${p99}; ${most} ms`],
  ['etcd, of one core', (row) => `${row.etcdCorePercent} %`],
  ['simulated workers, of one core', (row) => `${row.simulatedWorkersCorePercent} %`],
  ['a worker is lost: reset to last start, median; most', (row) => spread(row.lossToStartMs)],
  ['  of that, to the last prepare', (row) => spread(row.lossToPrepareMs)],
  ['  at the coordinator: noticed to started', (row) => spread(row.noticedToStartedMs)],
  ['a worker joins: loaded to last start, median; most', (row) => spread(row.loadedToStartMs)],
  ['many are lost at once', (row) => String(row.massVanished)],
  ['  first reset to last start of all jobs', (row) => `${row.massLossToStartMs} ms`],
  ['  all back: connect to last start', (row) => `${row.massReturnMs} ms`],
  ['  event loop late in the changes, most', (row) => `${row.loopDelayInChangesMs.most} ms`],
  ['all workers connect, job by job: to the last start', (row) => `${row.setUpMs} ms`],
];

export function tableOf({ rows }: ControlReport): string {
  const table = new Table({
    head: ['workers', ...rows.map((row) => String(row.workers))],
    colAligns: ['left', ...rows.map(() => 'right' as const)],
    style: { head: [], border: [] },
  });
  for (const [name, of] of LINES) table.push([name, ...rows.map(of)]);
  return table.toString();
}
