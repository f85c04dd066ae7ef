/**
 * `npm run bench:schedule`: a simulated month of a lab, under Lockstep's placement of jobs and under plain first come, first served, on the
 * same jobs and machines: how much of the machines is used, and how long people wait.
 */
import Table from 'cli-table3';
import { Command } from 'commander';
import { medianOf } from '../shared/median.js';
import { short } from './figures.js';
import { wholeNumber } from './options.js';
import { writeReport } from './report_file.js';
import { MONTH_S, makeMonth } from './schedule/month_jobs.js';
import { type MonthOutcome, type Policy, type RunningJob, runMonth } from './schedule/month_run.js';
import { FifoPolicy, LockstepPolicy } from './schedule/policies.js';

interface Options {
  readonly jobs: number;
  readonly machines: number;
  readonly load: number;
  readonly seeds: number;
  readonly json: string | undefined;
}

interface Outcome {
  readonly policy: string;
  readonly seed: number;
  /** Of the machines' time in the month, the share in which they had a job. */
  readonly utilisation: number;
  readonly meanWaitMinutes: number;
  readonly medianWaitMinutes: number;
  readonly ninetyFifthWaitMinutes: number;
  readonly longestWaitHours: number;
  /** From being submitted to its end. */
  readonly meanTurnaroundHours: number;
  readonly urgentMeanWaitMinutes: number;
  /** Until the last job had ended. */
  readonly days: number;
  readonly preemptions: number;
  readonly withdrawals: number;
  readonly decideMs: number;
}

const { jobs, machines, load, seeds, json }: Options = new Command('bench:schedule')
  .option('--jobs <n>', 'of the month', wholeNumber(1, 100_000), 2000)
  .option('--machines <n>', 'a worker each', wholeNumber(32, 10_000), 200)
  .option('--load <percent>', "of the machines' time that the jobs would take", wholeNumber(1, 300), 90)
  .option('--seeds <n>', 'months', wholeNumber(1, 100), 5)
  .option('--json <file>', 'write the figures there')
  .parse()
  .opts();

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function waitOf({ spec, firstStartS }: RunningJob): number {
  return (firstStartS ?? Number.NaN) - spec.submittedS;
}

function busyInMonth({ busy, endS }: MonthOutcome): number {
  return busy / (machines * Math.max(MONTH_S, endS));
}

function outcomeOf(policy: string, seed: number, outcome: MonthOutcome): Outcome {
  const waits = outcome.jobs.map((job) => waitOf(job) / 60).sort((left, right) => left - right);
  const urgent = outcome.jobs.filter(({ spec }) => spec.priority > 0);
  return {
    policy,
    seed,
    utilisation: busyInMonth(outcome),
    meanWaitMinutes: mean(waits),
    medianWaitMinutes: medianOf(waits),
    ninetyFifthWaitMinutes: waits[Math.floor(0.95 * waits.length)] ?? 0,
    longestWaitHours: (waits.at(-1) ?? 0) / 60,
    meanTurnaroundHours: mean(outcome.jobs.map(({ spec, endS }) => ((endS ?? Number.NaN) - spec.submittedS) / 3600)),
    urgentMeanWaitMinutes: mean(urgent.map((job) => waitOf(job) / 60)),
    days: outcome.endS / 86_400,
    preemptions: outcome.preemptions,
    withdrawals: outcome.withdrawals,
    decideMs: outcome.decideMs,
  };
}

const policies: readonly (readonly [string, () => Policy])[] = [
  ['Lockstep', () => new LockstepPolicy()],
  ['FIFO', () => new FifoPolicy()],
];
const outcomes: Outcome[] = [];
for (let seed = 1; seed <= seeds; seed++) {
  for (const [name, make] of policies) {
    const month = makeMonth({ seed, jobs, machines, load: load / 100 });
    outcomes.push(outcomeOf(name, seed, runMonth(month, make())));
  }
}

const COLUMNS: readonly (readonly [string, (outcome: Outcome) => number])[] = [
  ['used %', ({ utilisation }) => 100 * utilisation],
  ['wait, mean min', ({ meanWaitMinutes }) => meanWaitMinutes],
  ['median min', ({ medianWaitMinutes }) => medianWaitMinutes],
  ['95 % min', ({ ninetyFifthWaitMinutes }) => ninetyFifthWaitMinutes],
  ['longest h', ({ longestWaitHours }) => longestWaitHours],
  ['urgent, mean min', ({ urgentMeanWaitMinutes }) => urgentMeanWaitMinutes],
  ['turnaround h', ({ meanTurnaroundHours }) => meanTurnaroundHours],
  ['days', ({ days }) => days],
  ['sent away', ({ preemptions }) => preemptions],
  ['taken back', ({ withdrawals }) => withdrawals],
];
const table = new Table({ style: { head: [], border: [] }, head: ['', ...COLUMNS.map(([title]) => title)] });
for (const [name] of policies) {
  const own = outcomes.filter(({ policy }) => policy === name);
  table.push([name, ...COLUMNS.map(([, value]) => short(medianOf(own.map(value))))]);
}
process.stdout.write(
  `${jobs} jobs on ${machines} machines, load ${load} %: medians of ${seeds} months\n${table.toString()}\n`,
);
if (json === undefined)
  process.stdout.write(`${JSON.stringify({ benchmark: 'schedule', jobs, machines, load, outcomes })}\n`);
writeReport(json, { benchmark: 'schedule', jobs, machines, load, outcomes });
