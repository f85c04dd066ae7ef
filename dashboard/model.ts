/** What the page knows, and how messages of the server change it. Pure, and safe against messages that say what is known already. */
import type {
  CheckpointRow,
  EventRow,
  Hello,
  JobDelta,
  JobDetail,
  JobRow,
  JobSnapshot,
  LogRow,
  NodeRow,
  Rows,
  SeriesChange,
  SeriesColumns,
  ServerMessage,
  UsageRow,
} from '../shared/wire/dashboard.js';

const LOGS_KEPT = 1_000;
const EVENTS_KEPT = 500;

export interface JobModel {
  readonly job: string;
  readonly number: number;
  readonly detail: JobDetail;
  readonly stride: number;
  readonly series: SeriesColumns;
  readonly events: readonly EventRow[];
  readonly logs: readonly LogRow[];
  readonly checkpoints: readonly CheckpointRow[];
}

export interface Model {
  readonly hello: Hello | undefined;
  /** Undefined until the first snapshot. */
  readonly cluster: { readonly number: number } | undefined;
  readonly jobs: ReadonlyMap<string, JobRow>;
  readonly nodes: ReadonlyMap<string, NodeRow>;
  /** Undefined until the first snapshot. */
  readonly usage: UsageRow | undefined;
  /** The job that is looked at. */
  readonly job: JobModel | undefined;
  /** A job that was asked for and cannot be shown. */
  readonly missing: { readonly job: string; readonly reason: string } | undefined;
}

export const NO_MODEL: Model = {
  hello: undefined,
  cluster: undefined,
  jobs: new Map(),
  nodes: new Map(),
  usage: undefined,
  job: undefined,
  missing: undefined,
};

export function applied(model: Model, message: ServerMessage): Model {
  switch (message.kind) {
    case 'hello':
      return { ...model, hello: message };
    case 'cluster_snapshot':
      return {
        ...model,
        cluster: { number: message.number },
        jobs: new Map(message.data.jobs.map((row) => [row.job, row])),
        nodes: new Map(message.data.nodes.map((row) => [row.worker, row])),
        usage: message.data.usage,
      };
    case 'cluster_delta':
      return {
        ...model,
        cluster: { number: message.number },
        jobs: withRows(model.jobs, message.data.jobs, (row) => row.job),
        nodes: withRows(model.nodes, message.data.nodes, (row) => row.worker),
        usage: message.data.usage ?? model.usage,
      };
    case 'job_snapshot':
      return { ...model, missing: undefined, job: fromSnapshot(message.number, message.data) };
    case 'job_delta':
      if (model.job?.job !== message.job) return model;
      return { ...model, job: withDelta(model.job, message.number, message.data) };
    case 'job_missing':
      return { ...model, job: undefined, missing: { job: message.job, reason: message.reason } };
    case 'beat':
    case 'act_done':
      return model;
  }
}

function withRows<T>(
  rows: ReadonlyMap<string, T>,
  change: Rows<T> | undefined,
  idOf: (row: T) => string,
): ReadonlyMap<string, T> {
  if (change === undefined) return rows;
  const next = new Map(rows);
  for (const id of change.gone) next.delete(id);
  for (const row of change.changed) next.set(idOf(row), row);
  return next;
}

function fromSnapshot(number: number, { job, detail, series, events, logs, checkpoints }: JobSnapshot): JobModel {
  return { job, number, detail, stride: series.stride, series: series.columns, events, logs, checkpoints };
}

function withDelta(job: JobModel, number: number, delta: JobDelta): JobModel {
  const lastEvent = job.events.at(-1)?.sequence ?? -1;
  const lastLine = job.logs.at(-1)?.line ?? -1;
  const events = (delta.events ?? []).filter((event) => event.sequence > lastEvent);
  const logs = (delta.logs ?? []).filter((row) => row.line > lastLine);
  return {
    job: job.job,
    number,
    detail: delta.detail ?? job.detail,
    stride: delta.series?.stride ?? job.stride,
    series: delta.series === undefined ? job.series : withChange(job.series, delta.series),
    events: events.length === 0 ? job.events : [...job.events, ...events].slice(-EVENTS_KEPT),
    logs: logs.length === 0 ? job.logs : [...job.logs, ...logs].slice(-LOGS_KEPT),
    checkpoints: delta.checkpoints ?? job.checkpoints,
  };
}

function withChange(series: SeriesColumns, { from, columns }: SeriesChange): SeriesColumns {
  const joined = <T>(old: readonly T[], added: readonly T[]): readonly T[] => [...old.slice(0, from), ...added];
  return {
    step: joined(series.step, columns.step),
    timeMs: joined(series.timeMs, columns.timeMs),
    count: joined(series.count, columns.count),
    loss: joined(series.loss, columns.loss),
    lossMin: joined(series.lossMin, columns.lossMin),
    lossMax: joined(series.lossMax, columns.lossMax),
    stepMs: joined(series.stepMs, columns.stepMs),
    dataMs: joined(series.dataMs, columns.dataMs),
    computeMs: joined(series.computeMs, columns.computeMs),
    reduceMs: joined(series.reduceMs, columns.reduceMs),
    gatherMs: joined(series.gatherMs, columns.gatherMs),
    applyMs: joined(series.applyMs, columns.applyMs),
    samplesPerSecond: joined(series.samplesPerSecond, columns.samplesPerSecond),
  };
}
