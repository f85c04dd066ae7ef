/** Our values as the JSON that tools rely on: names in snake_case, `kind` as "event". */
import { clusterClassesOf, totalOf } from '../../shared/text/worker_time.js';
import type {
  AuditReport,
  Checkpoint,
  EngineUsage,
  Job,
  JobEvent,
  LogEntry,
  Node,
  Usage,
} from '../../shared/wire/jobs.js';

type JsonObject = Readonly<Record<string, unknown>>;

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function toJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toJson);
  // Keys of a Map are data, not names of ours.
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, one]) => [key, toJson(one)]));
  if (value !== null && typeof value === 'object') return fieldsToJson(value);
  return value;
}

function fieldsToJson(value: object): JsonObject {
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [snakeCase(name), toJson(one)]));
}

export function eventJson(event: JobEvent): JsonObject {
  const { kind, timeMs, job, sequence, ...rest } = event;
  return { event: snakeCase(kind), time_ms: timeMs, job, sequence, ...fieldsToJson(rest) };
}

export function jobJson(job: Job): JsonObject {
  const { spec, ...rest } = job;
  const { paramsJson, ...keys } = spec;
  const params: unknown = JSON.parse(paramsJson);
  return { ...fieldsToJson(rest), name: spec.name, spec: { ...fieldsToJson(keys), params } };
}

export function nodeJson(node: Node): JsonObject {
  return {
    worker: node.worker,
    host: node.host,
    pid: node.pid,
    engine_pid: node.enginePid,
    loop_delay_ms: node.loopDelayMs,
    state: node.state,
    job: node.job,
    step: node.committed,
    engine: node.engine,
    engine_usage: node.engineUsage === undefined ? null : usedJson(node.engineUsage),
    host_used_bytes: node.hostUsedBytes ?? null,
    machine: fieldsToJson(node.machine),
    cordoned: node.cordoned,
    quarantined: node.quarantined,
    marked: node.marked,
    preflight: node.preflight === undefined ? null : fieldsToJson(node.preflight),
  };
}

function usedJson({ memoryBytes, cores, device }: EngineUsage): JsonObject {
  return { memory_bytes: memoryBytes, cores, device: device === undefined ? null : fieldsToJson(device) };
}

/** With the sums that can be made of it. */
export function usageJson(usage: Usage): JsonObject {
  const workerSeconds = totalOf(clusterClassesOf(usage));
  const cost = usage.pricePerWorkerHour === 0 ? undefined : (workerSeconds / 3600) * usage.pricePerWorkerHour;
  return { event: 'usage', ...fieldsToJson(usage), worker_seconds: workerSeconds, cost };
}

export function checkpointJson(checkpoint: Checkpoint): JsonObject {
  return fieldsToJson(checkpoint);
}

export function logJson(job: string, entry: LogEntry): JsonObject {
  const { timeMs, worker, attempt, generation, step, stream, text } = entry;
  return { time_ms: timeMs, job, worker, attempt, generation, step, stream, text };
}

export function auditJson(report: AuditReport): JsonObject {
  return {
    event: 'audit',
    job: report.job,
    samples_lost: report.samplesLost,
    samples_repeated: report.samplesRepeated,
    steps: report.steps,
  };
}
