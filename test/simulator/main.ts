/**
 * Runs seeds from the command line: `npm run test:sim -- --seeds 100000`, or one of them with `--seed 17 --verbose`. Each runs twice and
 * the traces are compared, unless `--once` is given.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { replayCommand, runOnThreads } from './pool.js';
import { runSeedTwice } from './run_seed.js';
import { LEVELS, type Level } from './scenario.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    from: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '10000' },
    threads: { type: 'string', default: '2' },
    level: { type: 'string', default: 'all' },
    failures: { type: 'string', default: '5' },
    once: { type: 'boolean', default: false },
  },
});
const level: Level = LEVELS.find((one) => one === values.level) ?? 'all';
/** Seeds of one report. */
const BATCH = 5_000;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function runOne(seed: number): boolean {
  const result = runSeedTwice(seed, values.verbose ? { level, print: say } : { level });
  say(
    `seed ${seed}: ${result.failure ?? 'every invariant holds'} (${result.commits} commits, ${result.events} events)`,
  );
  return result.failure === undefined;
}

async function runMany(from: number, count: number): Promise<boolean> {
  const folder = fileURLToPath(new URL('../..', import.meta.url));
  const startedMs = performance.now();
  let runs = 0;
  let failed = 0;
  for (let seed = from; seed < from + count && failed < Number(values.failures); seed += BATCH) {
    const task = { from: seed, count: Math.min(BATCH, from + count - seed), stride: 1, level, twice: !values.once };
    const report = await runOnThreads(
      folder,
      { ...task, mostFailures: Number(values.failures) },
      Number(values.threads),
    );
    for (const { seed: bad, failure } of report.failures) say(`seed ${bad}: ${failure}\n  ${replayCommand(bad)}`);
    runs += report.runs;
    failed += report.failures.length;
    const rate = (runs / (performance.now() - startedMs)) * 1000;
    const [commits, events] = [report.commits / report.runs, report.events / report.runs].map(Math.round);
    const [saved, restored] = [report.saved / report.runs, report.restored / report.runs].map((one) => one.toFixed(2));
    say(
      `${runs} seeds, ${failed} failures, ${rate.toFixed(0)} seeds/s; a seed: ${commits} commits, ${events} events, ` +
        `${saved} checkpoints, ${restored} restores`,
    );
  }
  return failed === 0;
}

const good =
  values.seed === undefined ? await runMany(Number(values.from), Number(values.seeds)) : runOne(Number(values.seed));
process.exitCode = good ? 0 : 1;
