/**
 * `npm run bench:control`: one real coordinator with a real etcd, and 10, 100 and 1,000 simulated workers that speak to it through real
 * sessions. Prints what the coordinator takes, and how long it needs for a change of membership.
 */
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { measure } from './control/measure.js';
import { type ControlReport, type ControlRow, type ControlSetup, rowOf, tableOf } from './control/report.js';
import { describe, loadNow, thisMachine } from './machine.js';
import { wholeNumber, wholeNumbers } from './options.js';
import { writeReport } from './report_file.js';

/** Ten jobs have the same number of workers, and every tenth worker is lost at once. */
const TENTHS = 10;
const MOST_WORKERS = 10_000;

interface Options extends ControlSetup {
  readonly workers: readonly number[];
  readonly profiles: string | undefined;
  readonly json: string | undefined;
}

function sizesOf(text: string): readonly number[] {
  const sizes = wholeNumbers(TENTHS, MOST_WORKERS)(text);
  const odd = sizes.find((size) => size % TENTHS !== 0);
  if (odd === undefined) return sizes;
  throw new InvalidArgumentError(`${odd} is not a multiple of ${TENTHS}.`);
}

const stepText = 'time of a step; the cores of 1,000 workers need a processor for 5 steps a second';
const { workers, profiles, json, ...setup }: Options = new Command('bench:control')
  .option('--workers <list>', `numbers of workers, multiples of ${TENTHS}, with commas`, sizesOf, [10, 100, 1000])
  .option('--seconds <s>', 'length of the steady state that is measured', wholeNumber(1, 3600), 20)
  .option('--changes <n>', 'workers that vanish one after the other', wholeNumber(1, 1000), 12)
  .option('--step-ms <ms>', stepText, wholeNumber(1, 60_000), 200)
  .option('--profiles <folder>', 'where CPU profiles of the coordinator go')
  .option('--json <file>', 'write the figures there')
  .parse()
  .opts();

const repository = fileURLToPath(new URL('../..', import.meta.url));
const machine = thisMachine();
const began = new Date().toISOString();
const rows: ControlRow[] = [];
const report: ControlReport = { benchmark: 'control', machine, began, ...setup, rows };
process.stdout.write(`${describe(machine)}\n`);
for (const size of workers) {
  const loadBefore = loadNow();
  const measured = await measure({ ...setup, workers: size, repository, profiles });
  rows.push(rowOf(measured, { loadBefore, loadAfter: loadNow() }));
  // After each row, so that an interrupted run leaves what it has measured.
  writeReport(json, report);
}
process.stdout.write(
  `One coordinator, one etcd and all simulated workers on ${machine.cores} cores. Each job makes a step in ${setup.stepMs} ms.\n${tableOf(report)}\n`,
);
if (json === undefined) process.stdout.write(`${JSON.stringify(report)}\n`);
