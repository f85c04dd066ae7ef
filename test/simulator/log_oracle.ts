/** What is true of the logs of jobs: each line once, each worker's in order, and at last all that the workers have kept. */
import { isReadable } from '../../coordinator/core/job_logs.js';
import type { CoordinatorHost } from './coordinator_host.js';
import type { WorkerHost } from './worker_host.js';
import { Violation, type World } from './world.js';

export function checkLogs({ name, state }: CoordinatorHost, job: string): void {
  const run = state.jobs.get(job);
  if (run === undefined) return;
  const newest = new Map<string, number>();
  for (const { worker, incarnation, number, attempt } of run.logs.lines) {
    const source = `${worker} ${incarnation}`;
    if (number <= (newest.get(source) ?? 0)) {
      throw new Violation('logs', `${name}: line ${number} of ${source} comes after line ${newest.get(source)}`);
    }
    newest.set(source, number);
    if (attempt < 1 || attempt > (run.attempts.get(worker) ?? 0)) {
      throw new Violation(
        'logs',
        `${name}: a line of attempt ${attempt} of ${worker}, which had ${run.attempts.get(worker)}`,
      );
    }
  }
  if (run.logs.bytes > 2 * state.settings.logBytesLimit) throw new Violation('I11', `${name}: too many lines are kept`);
}

/** Lines that a worker has kept and the leader does not have, if any. Short of the bound nothing is lost while the worker lives. */
export function missingLines({ coordinators, workers }: World): string | undefined {
  const leader = [...coordinators.values()].find(({ alive, state }) => alive && state.leading !== undefined);
  if (leader === undefined) return 'nobody leads';
  for (const worker of workers.values()) {
    const missing = worker.alive ? missingOf(worker, leader) : undefined;
    if (missing !== undefined) return missing;
  }
  return undefined;
}

function missingOf({ name, incarnation, state }: WorkerHost, leader: CoordinatorHost): string | undefined {
  for (const [job, { lines }] of state.prints) {
    const run = leader.state.jobs.get(job);
    if (run === undefined) continue;
    checkLogs(leader, job);
    const own = run.logs.lines.filter((entry) => entry.worker === name && entry.incarnation === incarnation);
    const known = new Set(own.map(({ number }) => number));
    const missing = lines.find(({ number }) => !known.has(number));
    if (missing !== undefined) return `${leader.name} lacks line ${missing.number} of ${name} in ${job}`;
    if (!isReadable(run)) return `the lines of ${job} are still collected`;
  }
  return undefined;
}
