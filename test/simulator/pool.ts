/** Seeds on several threads. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Level } from './scenario.js';

export interface SeedTask {
  readonly from: number;
  readonly count: number;
  /** Distance from one seed to the next. */
  readonly stride: number;
  readonly level: Level;
  /** Each seed twice, and the traces compared. */
  readonly twice: boolean;
  readonly mostFailures: number;
}

export interface TaskReport {
  readonly runs: number;
  readonly events: number;
  readonly commits: number;
  readonly saved: number;
  readonly restored: number;
  readonly failures: readonly { readonly seed: number; readonly failure: string }[];
}

/** Runs a task with the compiled modules in `folder`, in one thread. */
export function runTask(folder: string, task: SeedTask): Promise<TaskReport> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(join(folder, 'test/simulator/seed_thread.js'), { workerData: task });
    thread.once('message', resolve);
    thread.once('error', reject);
  });
}

/** Shares the seeds of a task out to `threads` threads. */
export async function runOnThreads(folder: string, task: SeedTask, threads: number): Promise<TaskReport> {
  const shares = Array.from({ length: threads }, (_, index) =>
    runTask(folder, { ...task, from: task.from + index, count: task.count - index, stride: threads }),
  );
  const reports = await Promise.all(shares);
  const sum = (of: (report: TaskReport) => number) => reports.reduce((total, report) => total + of(report), 0);
  return {
    runs: sum(({ runs }) => runs),
    events: sum(({ events }) => events),
    commits: sum(({ commits }) => commits),
    saved: sum(({ saved }) => saved),
    restored: sum(({ restored }) => restored),
    failures: reports.flatMap(({ failures }) => failures).sort((left, right) => left.seed - right.seed),
  };
}

export function replayCommand(seed: number): string {
  return `npm run test:sim -- --seed ${seed} --verbose`;
}
