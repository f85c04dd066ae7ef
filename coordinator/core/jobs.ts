/** Submitting and cancelling. Nothing is acknowledged before it is in etcd. */
import type { SubmitRequest } from '../../shared/wire/jobs.js';
import { endJob } from './ending.js';
import { settle } from './membership.js';
import { type GenerationRecord, isTerminal, type JobRecord, type JobRun } from './state.js';
import { emit, type Turn, write } from './turn.js';

const MAX_JOBS = 10_000;
const MAX_DOUBTFUL_SUBMITS = 1_000;

export function newRun(record: JobRecord, last: GenerationRecord | undefined, formation: JobRun['formation']): JobRun {
  return {
    record,
    storedCommitted: record.progress.committed,
    progressStoredMs: 0,
    formation,
    generation: last?.generation ?? 0,
    lastRecord: last,
    crashes: new Map(),
    refused: new Map(),
    benched: new Map(),
    complaints: undefined,
    balancedMs: 0,
    finishing: undefined,
    finishTries: 0,
    digests: new Map(),
    reportedAhead: undefined,
    pause: undefined,
    lastCommitMs: 0,
    stepTimesMs: [],
    events: [],
    logs: [],
    logBytes: 0,
    logsDropped: 0,
    cancelRequests: [],
    ending: false,
  };
}

function submittedAs(turn: Turn, operationId: string): JobRecord | undefined {
  return [...turn.state.jobs.values()].find((run) => run.record.operationId === operationId)?.record;
}

/** Requests that wait for the same submit to be stored. */
function pendingSubmit(turn: Turn, operationId: string): string[] | undefined {
  for (const { pending } of turn.state.writes.values()) {
    if (pending.kind === 'submit' && pending.record.operationId === operationId) return pending.requests;
  }
  return undefined;
}

export function submit(turn: Turn, request: string, job: string, submitted: SubmitRequest): void {
  const before = submittedAs(turn, submitted.operationId);
  if (before !== undefined) {
    turn.commands.push({ kind: 'reply', request, job: before.job });
    return;
  }
  const beingStored = pendingSubmit(turn, submitted.operationId);
  if (beingStored !== undefined) {
    beingStored.push(request);
    return;
  }
  if (turn.state.jobs.size >= MAX_JOBS) {
    const message = `there are ${MAX_JOBS} jobs already`;
    turn.commands.push({ kind: 'reply_error', request, code: 'exhausted', message });
    return;
  }
  const doubtful = turn.state.doubtfulSubmits.get(submitted.operationId);
  const record: JobRecord = doubtful ?? {
    job,
    operationId: submitted.operationId,
    spec: submitted.spec,
    bundle: submitted.bundle,
    output: submitted.output,
    submittedMs: turn.wallMs,
    state: 'queued',
    reason: '',
    traceback: '',
    weightsDigest: '',
    metrics: {},
    facts: null,
    progress: { committed: 0, loss: null, samplesLost: 0, samplesRepeated: 0 },
  };
  write(turn, { kind: 'submit', requests: [request], record });
}

/** Whether etcd has it is not known for sure. */
export function submitFailed(turn: Turn, requests: readonly string[], record: JobRecord, reason: string): void {
  const { doubtfulSubmits } = turn.state;
  doubtfulSubmits.set(record.operationId, record);
  const [oldest] = doubtfulSubmits.keys();
  if (doubtfulSubmits.size > MAX_DOUBTFUL_SUBMITS && oldest !== undefined) doubtfulSubmits.delete(oldest);
  const message = `etcd did not store the job: ${reason}`;
  for (const request of requests) turn.commands.push({ kind: 'reply_error', request, code: 'not_stored', message });
}

export function submitStored(turn: Turn, requests: readonly string[], record: JobRecord): void {
  turn.state.doubtfulSubmits.delete(record.operationId);
  const run = newRun(record, undefined, { kind: 'gathering', sinceMs: turn.nowMs });
  turn.state.jobs.set(record.job, run);
  emit(turn, run, { kind: 'jobQueued', name: record.spec.name });
  for (const request of requests) turn.commands.push({ kind: 'reply', request, job: record.job });
  settle(turn);
}

export function cancel(turn: Turn, request: string, job: string): void {
  const run = turn.state.jobs.get(job);
  if (run === undefined) {
    turn.commands.push({ kind: 'reply_error', request, code: 'not_found', message: `there is no job ${job}` });
  } else if (isTerminal(run.record.state)) {
    turn.commands.push({ kind: 'reply', request, job });
  } else {
    run.cancelRequests.push(request);
    endJob(turn, run, 'cancelled', 'cancelled by a user', '');
  }
}
