/** What users can read, as pure functions of the state. */
import type { AuditReport, Checkpoint, Job, JobEvent, LogEntry, Node } from '../../shared/wire/jobs.js';
import { assignedTo } from './assignment.js';
import { compareNames } from './name_order.js';
import { totalSteps } from './progress.js';
import { newestWhole } from './retention.js';
import { type CoordinatorState, isTerminal, type JobRun, type Worker } from './state.js';

/** By id, or by name: several jobs may have the same name. */
export function findJobs(state: CoordinatorState, reference: string): readonly JobRun[] {
  const byId = state.jobs.get(reference);
  if (byId !== undefined) return [byId];
  return [...state.jobs.values()].filter((run) => run.record.spec.name === reference);
}

/** What a job waits for, or why it ended. */
export function reasonOf(state: CoordinatorState, run: JobRun): string {
  const { job, reason, spec } = run.record;
  if (isTerminal(run.record.state) || run.formation.kind === 'started') return reason;
  const assigned = assignedTo(state, job);
  const ready = assigned.filter((worker) => worker.facts !== undefined).length;
  const refused = [...run.refused].map(([worker, why]) => `; ${worker} is refused: ${why}`).join('');
  if (assigned.length < spec.workersMin) {
    return `waits for workers: ${assigned.length} of at least ${spec.workersMin} are there${refused}`;
  }
  if (ready < assigned.length)
    return `waits for engines: ${ready} of ${assigned.length} workers have loaded it${refused}`;
  return 'forms a generation';
}

export function jobView(state: CoordinatorState, run: JobRun): Job {
  const { record } = run;
  return {
    job: record.job,
    spec: record.spec,
    state: record.state,
    reason: reasonOf(state, run),
    submittedMs: record.submittedMs,
    committed: record.progress.committed,
    steps: totalSteps(run),
    generation: run.lastRecord?.generation ?? 0,
    workers: (run.lastRecord?.roster ?? []).map((member) => member.worker),
    loss: record.progress.loss ?? undefined,
    weightsDigest: record.weightsDigest,
    output: record.output,
    checkpoint: newestWhole(run.checkpoints)?.committed,
    checkpoints: record.checkpoints,
    resumedFrom: record.resumedFrom,
  };
}

export function jobsView(state: CoordinatorState): readonly Job[] {
  return [...state.jobs.values()]
    .sort((left, right) => left.record.submittedMs - right.record.submittedMs)
    .map((run) => jobView(state, run));
}

export function nodeState(state: CoordinatorState, worker: Worker): 'idle' | 'loading' | 'ready' | 'training' {
  if (worker.job === undefined) return 'idle';
  if (worker.facts === undefined) return 'loading';
  const formation = state.jobs.get(worker.job)?.formation;
  const member = formation?.kind === 'started' && formation.record.roster.some((one) => one.worker === worker.worker);
  return member ? 'training' : 'ready';
}

export function nodesView(state: CoordinatorState): readonly Node[] {
  return [...state.workers.values()]
    .sort((left, right) => compareNames(left.worker, right.worker))
    .map((worker) => ({
      worker: worker.worker,
      host: worker.host,
      pid: worker.pid,
      enginePid: worker.enginePid,
      loopDelayMs: worker.loopDelayMs,
      state: nodeState(state, worker),
      job: worker.job ?? '',
      committed: worker.committed,
      engine: worker.facts === undefined ? '' : `torch ${worker.facts.torch} ${worker.facts.device}`,
    }));
}

export function auditView(run: JobRun): AuditReport {
  const { committed, samplesLost, samplesRepeated } = run.record.progress;
  return { job: run.record.job, steps: committed, samplesLost, samplesRepeated };
}

export function checkpointsView(run: JobRun): readonly Checkpoint[] {
  return run.checkpoints.map(({ committed, path, bytes, timeMs, stateSha256, damage }) => ({
    step: committed,
    path,
    bytes,
    timeMs,
    state: stateSha256,
    damage,
  }));
}

/** Index of the first event at or after a sequence number. Sequence numbers grow, so it is found by halving. */
export function eventIndexFrom(run: JobRun, sequence: number): number {
  let low = 0;
  let high = run.events.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((run.events[middle]?.sequence ?? 0) < sequence) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first event at or after a sequence number. */
export function eventFrom(run: JobRun, sequence: number): JobEvent | undefined {
  return run.events[eventIndexFrom(run, sequence)];
}

/** The first log line that is kept at or after number `line` of the job, and its number. */
export function logFrom(run: JobRun, line: number): { readonly entry: LogEntry | undefined; readonly line: number } {
  const kept = Math.max(line, run.logsDropped);
  return { entry: run.logs[kept - run.logsDropped], line: kept };
}

export function hasEnded(run: JobRun): boolean {
  return isTerminal(run.record.state);
}
