/** Which idle worker is told to load which job: first come, first served; a running job grows while nobody waits. */
import { assignedTo, countOf, move } from './assignment.js';
import { isTerminal, type JobRun, type Worker } from './state.js';
import { send, type Turn } from './turn.js';

function mayTake(turn: Turn, run: JobRun, worker: Worker): boolean {
  if (worker.leaving || run.refused.has(worker.worker)) return false;
  const crash = run.crashes.get(worker.worker);
  return crash === undefined || turn.nowMs >= crash.retryMs;
}

export function assign(turn: Turn, run: JobRun, worker: Worker): void {
  const { job, spec, bundle, output } = run.record;
  move(turn.state, worker, job);
  worker.facts = undefined;
  send(turn, worker, { kind: 'load', job, spec, bundle, output });
}

/** Takes a worker away from its job. It is idle once it says that it has unloaded. */
export function release(turn: Turn, worker: Worker, reason: string): void {
  if (worker.job === undefined) return;
  send(turn, worker, { kind: 'unload', job: worker.job, reason });
  worker.facts = undefined;
}

/** It has workers, and not enough of them to go on. */
function isShort(turn: Turn, run: JobRun): boolean {
  const have = countOf(turn.state, run.record.job);
  return have > 0 && have < run.record.spec.workersMin;
}

export function schedule(turn: Turn): void {
  const open = [...turn.state.jobs.values()]
    .filter((run) => !isTerminal(run.record.state) && !run.ending)
    .sort((left, right) => left.record.submittedMs - right.record.submittedMs);
  let waits = false;
  for (const run of open) {
    const idle = assignedTo(turn.state, undefined).filter((worker) => mayTake(turn, run, worker));
    const have = countOf(turn.state, run.record.job);
    const { workersMin, workersMax } = run.record.spec;
    // Whoever waits longest is served first, but for jobs that lack a worker: what they have is no use to anybody meanwhile.
    if (have + idle.length < workersMin) {
      waits = true;
      continue;
    }
    if (waits && !isShort(turn, run)) continue;
    const most = waits ? workersMin : workersMax;
    for (const worker of idle.slice(0, Math.max(0, most - have))) assign(turn, run, worker);
  }
  if (waits)
    breakDeadlock(
      turn,
      open.filter((run) => isShort(turn, run)),
    );
}

/** Jobs that each hold some of the workers that the others lack: the youngest gives up its own, after some time. */
function breakDeadlock(turn: Turn, short: readonly JobRun[]): void {
  const youngest = short.at(-1);
  if (short.length < 2 || youngest?.formation.kind !== 'gathering') return;
  if (turn.nowMs - youngest.formation.sinceMs < turn.state.settings.shortMs) return;
  for (const worker of assignedTo(turn.state, youngest.record.job)) {
    if (worker.facts !== undefined) release(turn, worker, 'an older job lacks workers');
  }
}
