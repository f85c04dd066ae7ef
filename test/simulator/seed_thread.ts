/** Runs seeds in a thread of its own; the modules that it tests are those of the folder that it lies in. */
import { parentPort, workerData } from 'node:worker_threads';
import type { SeedTask, TaskReport } from './pool.js';
import { runSeed, runSeedTwice } from './run_seed.js';

const task: SeedTask = workerData;
let runs = 0;
let events = 0;
let commits = 0;
let saved = 0;
let restored = 0;
const failures: { readonly seed: number; readonly failure: string }[] = [];
for (let seed = task.from; seed < task.from + task.count && failures.length < task.mostFailures; seed += task.stride) {
  const result = task.twice ? runSeedTwice(seed, { level: task.level }) : runSeed(seed, { level: task.level });
  runs += 1;
  events += result.events;
  commits += result.commits;
  saved += result.saved;
  restored += result.restored;
  if (result.failure !== undefined) failures.push({ seed, failure: result.failure });
}
const report: TaskReport = { runs, events, commits, saved, restored, failures };
parentPort?.postMessage(report);
