/** What bench:dashboard tells: a table, and the same as JSON. */
import Table from 'cli-table3';
import { medianOf } from '../../shared/median.js';
import { type Figures, figuresOf, figuresText, short } from '../figures.js';
import type { Machine } from '../machine.js';
import type { PagesClosed } from './messages.js';
import { type MemorySample, MODES, type Mode, type Window } from './window.js';

/** One of each, one right after the other. */
export type Round = Readonly<Record<Mode, Window>>;

export interface Setup {
  readonly workers: number;
  readonly microbatchMs: number;
  readonly sourceJobs: number;
  /** Asked of the source. */
  readonly rate: number;
  /** With the frozen one. */
  readonly pages: number;
  readonly windowSeconds: number;
}

interface Row {
  readonly mode: Mode;
  readonly stepsPerSecond: Figures;
  readonly computeMs: Figures;
  readonly reduceMs: Figures;
  readonly eventsPerSecond: Figures;
  readonly coordinatorCpu: Figures;
  readonly etcdCpu: Figures;
  readonly sourceCpu: Figures;
  readonly pagesCpu: Figures;
  readonly foreignCores: Figures;
  readonly loopDelayMs: Figures;
  readonly anonymousMb: Figures;
}

export interface DashboardReport {
  readonly benchmark: 'dashboard';
  readonly machine: Machine;
  readonly torch: string;
  readonly began: string;
  readonly setup: Setup;
  readonly rows: readonly Row[];
  /** Steps a second of the training, by those of the other window of the same round: 1 is no difference. */
  readonly ratios: {
    readonly viewersToSource: Figures;
    readonly viewersToAlone: Figures;
    readonly sourceToAlone: Figures;
  };
  /** What the pages that read were given, and lost, in all windows with pages. */
  readonly given: {
    readonly kilobytesPerSecondEach: number;
    readonly missed: number;
    readonly lost: number;
    readonly silentMs: number;
  };
  readonly memory: readonly MemorySample[];
  /** Windows that were measured again, because others used the machine. */
  readonly repeated: number;
  readonly loadBefore: number;
  readonly loadAfter: number;
}

export function rowsOf(rounds: readonly Round[]): readonly Row[] {
  return MODES.map((mode) => {
    const windows = rounds.map((round) => round[mode]);
    const of = (value: (window: Window) => number): Figures => figuresOf(windows.map(value));
    return {
      mode,
      stepsPerSecond: of((window) => window.stepsPerSecond),
      computeMs: of((window) => window.computeMs),
      reduceMs: of((window) => window.reduceMs),
      eventsPerSecond: of((window) => window.eventsPerSecond),
      coordinatorCpu: of((window) => window.coordinatorCpu),
      etcdCpu: of((window) => window.etcdCpu),
      sourceCpu: of((window) => window.sourceCpu),
      pagesCpu: of((window) => window.pagesCpu),
      foreignCores: of((window) => window.foreignCores),
      loopDelayMs: of((window) => window.loopDelayMs),
      anonymousMb: of((window) => medianOf(window.memory.map((sample) => sample.anonymousMb))),
    };
  });
}

export function ratiosOf(rounds: readonly Round[]): DashboardReport['ratios'] {
  const ratio = (of: Mode, by: Mode): Figures =>
    figuresOf(rounds.map((round) => round[of].stepsPerSecond / round[by].stepsPerSecond));
  return {
    viewersToSource: ratio('viewers', 'source'),
    viewersToAlone: ratio('viewers', 'alone'),
    sourceToAlone: ratio('source', 'alone'),
  };
}

export function givenTo(closed: readonly PagesClosed[], openSeconds: number, reading: number) {
  const sum = (of: (one: PagesClosed) => number): number => closed.reduce((total, one) => total + of(one), 0);
  return {
    kilobytesPerSecondEach: Number(short(sum((one) => one.bytes) / 1000 / openSeconds / reading)),
    missed: sum((one) => one.missed),
    lost: sum((one) => one.lost),
    silentMs: Math.round(Math.max(...closed.map((one) => one.silentMs))),
  };
}

const NAMES: Readonly<Record<Mode, string>> = {
  alone: 'training alone',
  source: 'and the source of events',
  viewers: 'and pages, one frozen',
};

const percent = ({ median }: Figures): string => `${(median * 100).toFixed(1)} %`;
const change = ({ median, least, most }: Figures): string =>
  [median, least, most].map((value) => `${((value - 1) * 100).toFixed(2)} %`).join(', ');

export function tableOf({ rows }: DashboardReport): string {
  const table = new Table({
    head: [
      '',
      'steps/s',
      'compute',
      'reduce',
      'events/s',
      'coordinator',
      'source',
      'pages',
      'others',
      'loop late',
      'anonymous memory',
    ],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [] },
  });
  for (const row of rows) {
    table.push([
      NAMES[row.mode],
      figuresText(row.stepsPerSecond),
      `${row.computeMs.median.toFixed(1)} ms`,
      `${row.reduceMs.median.toFixed(1)} ms`,
      row.eventsPerSecond.median.toFixed(0),
      percent(row.coordinatorCpu),
      percent(row.sourceCpu),
      percent(row.pagesCpu),
      `${(row.foreignCores.median * 100).toFixed(1)} %`,
      `${row.loopDelayMs.median.toFixed(1)} ms`,
      `${row.anonymousMb.all[0]} to ${row.anonymousMb.all.at(-1)} MB`,
    ]);
  }
  return table.toString();
}

export function linesOf({ ratios, given, setup, repeated }: DashboardReport): string {
  return [
    `steps/s of the training, change in the same round (median, least, most of ${ratios.viewersToSource.all.length} rounds):`,
    `  source and pages, to source alone   ${change(ratios.viewersToSource)}`,
    `  source and pages, to neither        ${change(ratios.viewersToAlone)}`,
    `  source alone, to neither            ${change(ratios.sourceToAlone)}`,
    `each of the ${setup.pages - 1} pages that read: ${given.kilobytesPerSecondEach} kB/s, ` +
      `longest silence ${given.silentMs} ms, ${given.missed} messages missed, ${given.lost} connections lost`,
    `${repeated} windows were measured again, because others used the machine`,
  ].join('\n');
}
