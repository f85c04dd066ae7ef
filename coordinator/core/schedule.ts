/** Who gets which workers: placement.ts decides, from what is known here, and this carries it out. */
import type { JobSpec, Machine } from '../../shared/wire/jobs.js';
import { assignedTo, countOf } from './assignment.js';
import { sendAway, withdraw } from './departure.js';
import { usageOf } from './fair_share.js';
import { cordonedOf } from './nodes.js';
import { agedPriority, type Decision, mayYield, type PlacedJob, type PlacedWorker, placeJobs } from './placement.js';
import { preflightBar } from './preflights.js';
import { quarantineOf } from './quarantine.js';
import { assign, isGoing } from './release.js';
import { isTerminal, type JobRun, type Worker } from './state.js';
import type { Turn } from './turn.js';

const BYTES_PER_GIB = 2 ** 30;
/** Aging, back-offs and the like are looked at so often. */
const LOOK_MS = 200;
/** Of the machine's GPUs, beside its processors: what is scarcer is kept for those who need it. */
const GPU_SCARCITY = 65_536;

/** Called at each tick: for what comes by time alone. */
export function scheduleByTime(turn: Turn): void {
  if (turn.nowMs - turn.state.scheduledMs >= LOOK_MS) schedule(turn);
}

export function schedule(turn: Turn): void {
  turn.state.scheduledMs = turn.nowMs;
  const open = [...turn.state.jobs.values()].filter((run) => !isTerminal(run.record.state) && !run.ending);
  // Whose workers are about to say that they are there is given no others in their place, and nobody's share is known yet.
  if (open.some(({ formation }) => formation.kind === 'adopting')) return;
  const { scheduling } = turn.state.settings;
  for (const run of open) if (hasReturned(turn, run)) run.sentAway = undefined;
  const jobless = assignedTo(turn.state, undefined).map((worker) => ({ worker, bar: barOf(turn, worker) }));
  const { decisions, waits } = placeJobs({
    jobs: open.filter((run) => !isBeingSentAway(turn, run)).map((run) => placedJob(turn, run)),
    idle: jobless.flatMap(({ worker, bar }) => (bar === undefined ? placedWorker(turn, worker) : [])),
    barred: jobless.flatMap(({ bar }) => bar ?? []),
    // Also of jobs that have ended.
    coming: [...turn.state.workers.values()]
      .filter((worker) => worker.job !== undefined && (isGoing(worker) || worker.unloading))
      .filter((worker) => barOf(turn, worker) === undefined)
      .map((worker) => placedWorker(turn, worker)),
    spares: scheduling.spares,
    quotaOf: (user) => scheduling.quotas.get(user) ?? scheduling.quota,
    usageOf: (user) => usageOf(turn.state.usages, user, turn.nowMs),
  });
  for (const run of open) run.waitsFor = waits.get(run.record.job) ?? '';
  for (const decision of decisions) carryOut(turn, decision);
}

/** Why it may be given no work at all; undefined if it may. */
function barOf(turn: Turn, worker: Worker): string | undefined {
  if (worker.leaving) return 'it is being stopped';
  if (cordonedOf(turn.state, worker.worker) !== '') return 'it is cordoned';
  return preflightBar(turn, worker);
}

function placedWorker(turn: Turn, { worker, machine }: Worker): PlacedWorker {
  const scarcity = GPU_SCARCITY * machine.gpus + machine.cpus;
  return { worker, scarcity, quarantined: quarantineOf(turn.state, worker, turn.nowMs) !== '' };
}

function heldBy(turn: Turn, run: JobRun): readonly Worker[] {
  return assignedTo(turn.state, run.record.job).filter((worker) => !isGoing(worker) && !worker.unloading);
}

/** It has workers, of which the last is being saved. */
function isBeingSentAway(turn: Turn, run: JobRun): boolean {
  return run.sentAway !== undefined && countOf(turn.state, run.record.job) > 0;
}

/** A worker that was lost came back with the job when all others had gone: it does not know that it was to go, and is in use again. */
function hasReturned(turn: Turn, run: JobRun): boolean {
  if (run.sentAway === undefined) return false;
  const held = heldBy(turn, run).length;
  return held > 0 && held === countOf(turn.state, run.record.job);
}

function placedJob(turn: Turn, run: JobRun): PlacedJob {
  const { job, user, spec, submittedMs } = run.record;
  const held = heldBy(turn, run);
  return {
    job,
    user,
    priority: agedPriority(spec.priority, run.waitedMs),
    submittedMs,
    workersMin: spec.workersMin,
    workersMax: spec.workersMax,
    held: held.map(({ worker }) => worker),
    short: run.lastRecord !== undefined && run.sentAway === undefined,
    stuck: isStuck(turn, run, held.length),
    steady: isSteady(turn, run),
    canBeSaved: canBeSaved(run, held),
    backfilled: run.backfilled,
    yields: mayYield(run.backfilled, turn.nowMs - run.assignedMs),
    requirement: requirementOf(run),
    misfit: (name) => misfit(turn, run, name),
  };
}

/** Whoever is not known to have made a step, yet, would be let go without being saved. */
function canBeSaved({ record }: JobRun, held: readonly Worker[]): boolean {
  const { checkpointEvery, checkpointMinutes } = record.spec;
  return (checkpointEvery > 0 || checkpointMinutes > 0) && held.every(({ committed }) => committed > 0);
}

/** It has made a step since its membership changed, and is neither restoring nor about to end. */
function isSteady(turn: Turn, run: JobRun): boolean {
  const { formation, finishing, lastCommitMs } = run;
  if (formation.kind !== 'started' || formation.restores !== undefined || finishing !== undefined) return false;
  const isWhole = formation.record.roster.every(({ worker: name, incarnation }) => {
    const worker = turn.state.workers.get(name);
    return worker?.incarnation === incarnation && worker.facts !== undefined && !isGoing(worker);
  });
  return isWhole && lastCommitMs > formation.sinceMs;
}

/** Of specs, which do not change. */
const requirements = new WeakMap<JobSpec, string>();

/** A job that has refused a worker, or crashed on one, is like no other. */
function requirementOf({ record, refused, crashes }: JobRun): string {
  const { spec } = record;
  const known = requirements.get(spec);
  const needs = known ?? JSON.stringify([spec.where, spec.needsGpus, spec.needsCpus, spec.needsMemoryGib]);
  if (known === undefined) requirements.set(spec, needs);
  return refused.size + crashes.size === 0 ? needs : `${needs} ${record.job}`;
}

function misfit(turn: Turn, run: JobRun, name: string): string | undefined {
  const worker = turn.state.workers.get(name);
  if (worker === undefined) return 'it is gone';
  // Of one that has a job: taken away from there it would be of no use to another.
  const bar = barOf(turn, worker);
  if (bar !== undefined) return bar;
  const refused = run.refused.get(name);
  if (refused?.incarnation === worker.incarnation) return refused.reason;
  const crash = run.crashes.get(name);
  if (crash !== undefined && turn.nowMs < crash.retryMs) return 'its engine has crashed, and is tried again soon';
  return lackOf(run.record.spec, worker.machine);
}

/** What the machine lacks for the job, if anything. */
function lackOf(spec: JobSpec, { labels, cpus, gpus, memoryBytes }: Machine): string | undefined {
  for (const { label, values } of spec.where) {
    const value = labels.get(label);
    if (value === undefined || !values.includes(value)) return `its label ${label} is not ${values.join(' or ')}`;
  }
  if (gpus < spec.needsGpus) return `it has ${gpus} of ${spec.needsGpus} GPUs`;
  if (cpus < spec.needsCpus) return `it has ${cpus} of ${spec.needsCpus} processors`;
  const memoryGib = Math.floor(memoryBytes / BYTES_PER_GIB);
  return memoryGib < spec.needsMemoryGib ? `it has ${memoryGib} of ${spec.needsMemoryGib} GiB of memory` : undefined;
}

function carryOut(turn: Turn, decision: Decision): void {
  const run = turn.state.jobs.get(decision.job);
  if (run === undefined) return;
  if (decision.kind === 'preempt') {
    sendAway(turn, run, decision.reason);
    return;
  }
  const worker = turn.state.workers.get(decision.worker);
  if (worker === undefined) return;
  if (decision.kind === 'withdraw') withdraw(turn, run, worker, decision.reason);
  else give(turn, run, worker, decision.backfilled);
}

function give(turn: Turn, run: JobRun, worker: Worker, backfilled: boolean): void {
  if (countOf(turn.state, run.record.job) === 0) run.assignedMs = turn.nowMs;
  run.backfilled = backfilled;
  run.sentAway = undefined;
  assign(turn, run, worker);
}

/** It has workers, not enough of them to go on, and has waited for the others for a while. */
function isStuck({ state, nowMs }: Turn, { formation, record }: JobRun, held: number): boolean {
  if (held === 0 || held >= record.spec.workersMin || formation.kind !== 'gathering') return false;
  return nowMs - formation.sinceMs >= state.settings.shortMs;
}
