/**
 * `npm run bench:control`: one real coordinator with a real etcd, and 10, 100 and 1,000 simulated workers that speak to it through real
 * sessions. Prints what the coordinator takes, and how long it needs for a change of membership.
 */
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { type Measured, measure } from './control/measure.js';
import { summaryOf, tableOf } from './control/report.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));

const { workers, seconds, changes, stepMs, profiles } = new Command('bench:control')
  .option('--workers <list>', 'numbers of workers, with commas', '10,100,1000')
  .option('--seconds <s>', 'length of the steady state that is measured', '20')
  .option('--changes <n>', 'workers that vanish one after the other', '12')
  .option('--step-ms <ms>', 'time of a step; the cores of 1,000 workers need a processor for 5 steps a second', '200')
  .option('--profiles <folder>', 'where CPU profiles of the coordinator go')
  .parse()
  .opts<{ workers: string; seconds: string; changes: string; stepMs: string; profiles?: string }>();

const results: Measured[] = [];
for (const size of workers.split(',').map(Number)) {
  const options = { workers: size, seconds: Number(seconds), changes: Number(changes) };
  results.push(await measure({ ...options, stepMs: Number(stepMs), repository, profiles }));
}
process.stdout.write(
  `One coordinator, one etcd and all simulated workers on ${cpus().length} cores. Each job makes a step in ${stepMs} ms.\n${tableOf(results)}\n`,
);
const event = {
  event: 'control_benchmark',
  cores: cpus().length,
  step_ms: Number(stepMs),
  sizes: results.map(summaryOf),
};
process.stdout.write(`${JSON.stringify(event)}\n`);
