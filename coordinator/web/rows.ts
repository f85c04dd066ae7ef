/** What the page shows, as pure functions of the core's state and of the histories. */
import { medianOf } from '../../shared/median.js';
import type { CheckpointRow, JobDetail, JobRow, LogRow, NodeRow, UsageRow } from '../../shared/wire/dashboard.js';
import type { JobSpec } from '../../shared/wire/jobs.js';
import type { Member } from '../../shared/wire/session.js';
import { isReadable, nextLine } from '../core/job_logs.js';
import { compareNames } from '../core/name_order.js';
import { cordonedOf } from '../core/nodes.js';
import { markOf } from '../core/preflights.js';
import { totalSteps } from '../core/progress.js';
import { quarantineOf } from '../core/quarantine.js';
import { newestWhole } from '../core/retention.js';
import { spentOf } from '../core/spent.js';
import type { CoordinatorState, JobRun, Worker } from '../core/state.js';
import { hasEnded, nodeState, reasonOf } from '../core/views.js';
import type { JobHistory } from './job_history.js';
import type { Rate } from './speed.js';

/** A microbatch of a slow worker takes so many times the median of its job. */
const SLOW_FACTOR = 1.5;
const LOG_LINES = 400;
const LOG_CHARACTERS = 131_072;
const LINE_CHARACTERS = 4_096;
const TRACEBACK_CHARACTERS = 16_384;
const DIGITS = 4;
const MEMORY_DIGITS = 2;

function short(value: number): number {
  return Number(value.toPrecision(DIGITS));
}

function rateOf(run: JobRun, history: JobHistory | undefined, wallMs: number): Rate | undefined {
  return hasEnded(run) || run.formation.kind === 'gathering' ? undefined : history?.speed.rate(wallMs);
}

export function jobRow(state: CoordinatorState, run: JobRun, history: JobHistory | undefined, wallMs: number): JobRow {
  const { record } = run;
  const { committed, loss } = record.progress;
  const steps = totalSteps(run);
  const rate = rateOf(run, history, wallMs);
  return {
    job: record.job,
    name: record.spec.name,
    user: record.user,
    priority: record.spec.priority,
    state: record.state,
    reason: reasonOf(state, run),
    submittedMs: record.submittedMs,
    committed,
    steps,
    generation: run.lastRecord?.generation ?? 0,
    workers: run.lastRecord?.roster.length ?? 0,
    loss: loss !== null && Number.isFinite(loss) ? loss : null,
    stepsPerSecond: rate === undefined ? null : short(rate.stepsPerSecond),
    samplesPerSecond: rate === undefined ? null : short(rate.samplesPerSecond),
    secondsLeft: rate === undefined || steps === 0 ? null : Math.ceil((steps - committed) / rate.stepsPerSecond),
    checkpoint: newestWhole(run.checkpoints)?.committed ?? null,
  };
}

/** Median time of a microbatch by job; jobs of one worker have nobody to be compared with. */
function paces(state: CoordinatorState): ReadonlyMap<string, number> {
  const times = new Map<string, number[]>();
  for (const { job, microbatchMs } of state.workers.values()) {
    if (job === undefined || microbatchMs === 0) continue;
    const known = times.get(job);
    if (known === undefined) times.set(job, [microbatchMs]);
    else known.push(microbatchMs);
  }
  // Of two, the upper would be the slow one itself.
  return new Map(
    [...times]
      .filter(([, all]) => all.length > 1)
      .map(([job, all]) => [job, all.length === 2 ? Math.min(...all) : medianOf(all)]),
  );
}

export function nodeRows(state: CoordinatorState, nowMs: number): readonly NodeRow[] {
  const pace = paces(state);
  const rosters = new Map<string, ReadonlyMap<string, Member>>();
  const rosterOf = (job: string): ReadonlyMap<string, Member> => {
    const known = rosters.get(job);
    if (known !== undefined) return known;
    const members = state.jobs.get(job)?.lastRecord?.roster ?? [];
    const roster = new Map(members.map((member) => [member.worker, member]));
    rosters.set(job, roster);
    return roster;
  };
  return [...state.workers.values()]
    .sort((left, right) => compareNames(left.worker, right.worker))
    .map((worker) => {
      const job = worker.job ?? '';
      const row = nodeRow(state, worker, rosterOf(job).get(worker.worker), pace.get(job));
      return { ...row, note: noteOf(state, worker.worker, nowMs) };
    });
}

function nodeRow(
  state: CoordinatorState,
  worker: Worker,
  member: Member | undefined,
  paceMs: number | undefined,
): Omit<NodeRow, 'note'> {
  return {
    worker: worker.worker,
    host: worker.host,
    pid: worker.pid,
    enginePid: worker.enginePid,
    state: nodeState(state, worker),
    job: worker.job ?? '',
    committed: worker.committed,
    device: worker.facts?.device ?? '',
    torch: worker.facts?.torch ?? '',
    lo: member?.lo ?? 0,
    length: member?.length ?? 0,
    loopDelayMs: short(worker.loopDelayMs),
    microbatchMs: short(worker.microbatchMs),
    ...usageOf(worker),
    cordoned: cordonedOf(state, worker.worker) !== '',
    slow: paceMs !== undefined && worker.microbatchMs > paceMs * SLOW_FACTOR,
  };
}

/** In so few digits that an idle machine does not change with every heartbeat. */
function usageOf({ engineUsage, hostUsedBytes, machine }: Worker) {
  const rounded = (bytes: number | undefined): number | null =>
    bytes === undefined ? null : Number(bytes.toPrecision(MEMORY_DIGITS));
  return {
    engineCores: engineUsage === undefined ? null : Number(engineUsage.cores.toFixed(1)),
    engineBytes: rounded(engineUsage?.memoryBytes),
    cpus: machine.cpus,
    hostUsedBytes: rounded(hostUsedBytes),
    hostBytes: machine.memoryBytes,
    deviceUsedBytes: rounded(engineUsage?.device?.usedBytes),
    deviceBytes: engineUsage?.device?.totalBytes ?? null,
  };
}

function noteOf(state: CoordinatorState, worker: string, nowMs: number): string {
  const cordoned = cordonedOf(state, worker);
  const quarantined = quarantineOf(state, worker, nowMs);
  const marked = markOf(state, worker);
  if (cordoned !== '') return `cordoned: ${cordoned}`;
  if (marked !== '') return `marked: ${marked}`;
  return quarantined === '' ? '' : `quarantined: ${quarantined}`;
}

export function jobDetail(state: CoordinatorState, run: JobRun): JobDetail {
  const { record } = run;
  const { spec, facts, progress } = record;
  return {
    roster: (run.lastRecord?.roster ?? []).map((member) => member.worker),
    ...specFacts(spec),
    parameters: facts?.parameters ?? null,
    datasetLength: facts?.datasetLength ?? null,
    output: record.output,
    checkpoints: record.checkpoints,
    resumedFrom: record.resumedFrom,
    weightsDigest: record.weightsDigest,
    // In so few digits that it does not change with every look.
    spent: spentOf((name) => short(run.spent[name])),
    pricePerWorkerHour: state.settings.pricePerWorkerHour,
    samplesLost: progress.samplesLost,
    samplesRepeated: progress.samplesRepeated,
    metrics: record.metrics,
    traceback: record.traceback.slice(-TRACEBACK_CHARACTERS),
  };
}

/** In so few digits, too. */
export function usageRow({ cluster: { sinceMs, jobs, unused }, settings }: CoordinatorState): UsageRow {
  return {
    sinceMs,
    jobs: spentOf((name) => short(jobs[name])),
    idleSeconds: short(unused.idleSeconds),
    cordonedSeconds: short(unused.cordonedSeconds),
    quarantinedSeconds: short(unused.quarantinedSeconds),
    leavingSeconds: short(unused.leavingSeconds),
    pricePerWorkerHour: settings.pricePerWorkerHour,
  };
}

function specFacts(spec: JobSpec) {
  const { task, batch, microbatches, seed, precision, exchange, determinism, workersMin, workersMax } = spec;
  return { task, batch, microbatches, seed, precision, exchange, determinism, workersMin, workersMax };
}

export function checkpointRows(run: JobRun): readonly CheckpointRow[] {
  return run.checkpoints.map(({ committed, path, bytes, timeMs, damage }) => ({
    step: committed,
    path,
    bytes,
    timeMs,
    damage,
  }));
}

/** The newest lines from number `line` on, as many as a page shows. */
export function logRows(run: JobRun, line: number): readonly LogRow[] {
  const rows: LogRow[] = [];
  if (!isReadable(run)) return rows;
  const { lines, dropped } = run.logs;
  const first = Math.max(line - dropped, 0);
  let characters = 0;
  for (let index = lines.length - 1; index >= first && rows.length < LOG_LINES; index--) {
    const entry = lines[index];
    if (entry === undefined) break;
    const { timeMs, worker, attempt, stream } = entry;
    const text = entry.text.slice(0, LINE_CHARACTERS);
    characters += text.length;
    if (characters > LOG_CHARACTERS) break;
    rows.push({ line: dropped + index, timeMs, worker, attempt, stream, text });
  }
  return rows.reverse();
}

/** Number of the first line that has not been shown. */
export function nextLogLine(run: JobRun): number {
  return isReadable(run) ? nextLine(run) : 0;
}
