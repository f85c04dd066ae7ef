/** What users can read, as pure functions of the state. */
import { medianOf } from '../../shared/median.js';
import type { AuditReport, Checkpoint, Job, Node, Usage } from '../../shared/wire/jobs.js';
import { assignedTo } from './assignment.js';
import { heaviestUsers } from './fair_share.js';
import { compareNames } from './name_order.js';
import { cordonedOf } from './nodes.js';
import { markOf } from './preflights.js';
import { totalSteps } from './progress.js';
import { quarantineOf } from './quarantine.js';
import { isGoing } from './release.js';
import { newestWhole } from './retention.js';
import { type CoordinatorState, isTerminal, type JobRun, type Worker } from './state.js';

type NodeState = 'idle' | 'measuring' | 'loading' | 'ready' | 'training' | 'leaving';

/** What a job waits for, or why it ended. */
export function reasonOf(state: CoordinatorState, run: JobRun): string {
  const { job, reason, spec } = run.record;
  if (isTerminal(run.record.state) || run.formation.kind === 'started') return reason;
  if (run.waitsFor !== '') return run.sentAway === undefined ? run.waitsFor : `${run.sentAway}; ${run.waitsFor}`;
  const assigned = assignedTo(state, job);
  if (run.sentAway !== undefined) return `is being saved: ${run.sentAway}`;
  const ready = assigned.filter((worker) => worker.facts !== undefined).length;
  const refused = [...run.refused].map(([worker, { reason: why }]) => `; ${worker} is refused: ${why}`).join('');
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
    user: record.user,
    spent: run.spent,
    pricePerWorkerHour: state.settings.pricePerWorkerHour,
    secondsLeft: secondsLeft(run),
    bundle: record.bundle,
  };
}

function secondsLeft(run: JobRun): number | undefined {
  const steps = totalSteps(run);
  if (run.formation.kind !== 'started' || steps === 0 || run.stepTimesMs.length === 0) return undefined;
  return (Math.max(0, steps - run.record.progress.committed) * medianOf(run.stepTimesMs)) / 1000;
}

/** Of what a job says beside its spec, its paths and its workers, at most. */
const JOB_BYTES = 5_120;
const WORKER_BYTES = 65;

/** By age, the newest last. As many of the newest as fit, and how many were left out. */
export function newestJobs(state: CoordinatorState, mostBytes: number) {
  const all = [...state.jobs.values()].sort((left, right) => right.record.submittedMs - left.record.submittedMs);
  let bytes = 0;
  const fits = ({ record, lastRecord }: JobRun): boolean => {
    const { spec, output, checkpoints, bundle } = record;
    bytes += JOB_BYTES + JSON.stringify([spec, output, checkpoints, bundle]).length;
    bytes += WORKER_BYTES * (lastRecord?.roster.length ?? 0);
    return bytes <= mostBytes;
  };
  const first = all.findIndex((run) => !fits(run));
  const shown = first < 0 ? all : all.slice(0, first);
  const jobs = shown.reverse().map((run) => jobView(state, run));
  return { jobs, leftOut: all.length - shown.length };
}

export function nodeState(state: CoordinatorState, worker: Worker): NodeState {
  if (worker.job === undefined) return worker.measuringUntilMs === undefined ? 'idle' : 'measuring';
  if (isGoing(worker) || worker.unloading) return 'leaving';
  if (worker.facts === undefined) return 'loading';
  const formation = state.jobs.get(worker.job)?.formation;
  const member = formation?.kind === 'started' && formation.record.roster.some((one) => one.worker === worker.worker);
  return member ? 'training' : 'ready';
}

export function nodesView(state: CoordinatorState, nowMs: number): readonly Node[] {
  return [...state.workers.values()]
    .sort((left, right) => compareNames(left.worker, right.worker))
    .map((worker) => nodeView(state, worker, nowMs));
}

export function nodeView(state: CoordinatorState, worker: Worker, nowMs: number): Node {
  return {
    worker: worker.worker,
    host: worker.host,
    pid: worker.pid,
    enginePid: worker.enginePid,
    loopDelayMs: worker.loopDelayMs,
    state: nodeState(state, worker),
    job: worker.job ?? '',
    committed: worker.committed,
    engine: worker.facts === undefined ? '' : `torch ${worker.facts.torch} ${worker.facts.device}`,
    machine: worker.machine,
    cordoned: cordonedOf(state, worker.worker),
    quarantined: quarantineOf(state, worker.worker, nowMs),
    marked: markOf(state, worker.worker),
    preflight: state.preflights.get(worker.worker)?.report,
    engineUsage: worker.engineUsage,
    hostUsedBytes: worker.hostUsedBytes,
  };
}

/** A worker that has no session now. */
export function absentNode(state: CoordinatorState, worker: string): Node {
  return {
    worker,
    host: '',
    pid: 0,
    enginePid: 0,
    loopDelayMs: 0,
    state: 'absent',
    job: '',
    committed: 0,
    engine: '',
    machine: { labels: new Map(), cpus: 0, gpus: 0, memoryBytes: 0 },
    cordoned: cordonedOf(state, worker),
    quarantined: '',
    marked: markOf(state, worker),
    preflight: state.preflights.get(worker)?.report,
  };
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

/** The users who have had most come first. */
export function usageView(state: CoordinatorState, { nowMs, wallMs }: { nowMs: number; wallMs: number }): Usage {
  const { sinceMs, jobs, unused } = state.cluster;
  return {
    sinceMs,
    timeMs: wallMs,
    jobs,
    ...unused,
    pricePerWorkerHour: state.settings.pricePerWorkerHour,
    users: heaviestUsers(state.usages, nowMs),
  };
}

export function hasEnded(run: JobRun): boolean {
  return isTerminal(run.record.state);
}
