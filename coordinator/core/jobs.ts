/** Submitting and cancelling. Nothing is acknowledged before it is in etcd. */
import type { ResumeRequest, SubmitRequest } from '../../shared/wire/jobs.js';
import { waitedMsOf } from './accounts.js';
import { endJob } from './ending.js';
import type { CoordinatorEvent } from './event.js';
import { EventLog } from './event_log.js';
import { newLogs } from './job_logs.js';
import { settle } from './membership.js';
import { forget } from './recently_ended.js';
import { advanceSaving } from './saving.js';
import { NOTHING_SPENT } from './spent.js';
import {
  type CoordinatorState,
  type GenerationRecord,
  isTerminal,
  type JobRecord,
  type JobRun,
  type Pending,
  type Submitted,
} from './state.js';
import { emit, logJob, type Turn, write } from './turn.js';

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
    events: new EventLog(),
    logs: newLogs(),
    attempts: new Map(Object.entries(last?.attempts ?? {})),
    cancelRequests: [],
    ending: false,
    checkpoints: [],
    saving: {
      save: undefined,
      asked: undefined,
      lastMs: 0,
      leadFactor: 1,
      leaverWaits: false,
      skipped: 0,
      cancels: [],
      removing: new Set(),
    },
    redoing: 0,
    restoreNotBeforeMs: 0,
    spent: record.spent,
    unclaimedSeconds: 0,
    reported: {},
    waitsFor: '',
    waitedMs: waitedMsOf(record.spec.workersMin, record.spent),
    backfilled: false,
    assignedMs: 0,
    sentAway: undefined,
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

/** The answer to a request that was made before, or a place among those that wait for it. True if nothing more is to be done. */
function wasSubmitted(turn: Turn, request: string, operationId: string): boolean {
  const before = submittedAs(turn, operationId);
  if (before !== undefined) {
    turn.commands.push({ kind: 'reply', request, job: before.job });
    return true;
  }
  const beingStored = pendingSubmit(turn, operationId);
  if (beingStored !== undefined) {
    beingStored.push(request);
    return true;
  }
  if (!isFull(turn.state) || oldestEnded(turn.state) !== undefined) return false;
  const message = `there are ${turn.state.settings.jobLimit} jobs already, and none of them has ended`;
  turn.commands.push({ kind: 'reply_error', request, code: 'exhausted', message });
  return true;
}

/** Counts those that are being stored, and not those that make room for them. */
function isFull({ jobs, writes, settings }: CoordinatorState): boolean {
  let count = jobs.size;
  for (const { pending } of writes.values()) if (pending.kind === 'submit' && pending.forgets === undefined) count += 1;
  return count >= settings.jobLimit;
}

/** The job that makes room when there are too many. Its checkpoints and its model stay where they are. */
function oldestEnded({ jobs, writes }: CoordinatorState): string | undefined {
  const going = new Set([...writes.values()].map(({ pending }) => (pending.kind === 'submit' ? pending.forgets : '')));
  let oldest: JobRecord | undefined;
  for (const { record } of jobs.values()) {
    const isOlder = oldest === undefined || record.submittedMs < oldest.submittedMs;
    if (isOlder && isTerminal(record.state) && !going.has(record.job)) oldest = record;
  }
  return oldest?.job;
}

function writeSubmit(turn: Turn, request: string, submitted: Submitted): void {
  const forgets = isFull(turn.state) ? oldestEnded(turn.state) : undefined;
  write(turn, { kind: 'submit', requests: [request], forgets, ...submitted });
}

type NewJob = Pick<JobRecord, 'job' | 'operationId' | 'user' | 'spec' | 'bundle' | 'output' | 'checkpoints'> &
  Partial<JobRecord>;

function newRecord(turn: Turn, job: NewJob): JobRecord {
  return {
    resumedFrom: '',
    submittedMs: turn.wallMs,
    state: 'queued',
    reason: '',
    traceback: '',
    weightsDigest: '',
    metrics: {},
    facts: null,
    progress: { committed: 0, loss: null, samplesLost: 0, samplesRepeated: 0 },
    restores: { count: 0, committed: 0 },
    spent: NOTHING_SPENT,
    ...job,
  };
}

export function submit(turn: Turn, request: string, job: string, submitted: SubmitRequest): void {
  const { operationId, user, spec, bundle, output, checkpoints } = submitted;
  if (wasSubmitted(turn, request, operationId)) return;
  const doubtful = turn.state.doubtfulSubmits.get(operationId);
  const record = newRecord(turn, { job, operationId, user, spec, bundle, output, checkpoints });
  writeSubmit(turn, request, doubtful ?? { record, checkpoints: [] });
}

/** A new job that goes on where one that has ended was saved. */
export function resume(turn: Turn, request: string, job: string, { operationId, job: old, from }: ResumeRequest): void {
  if (wasSubmitted(turn, request, operationId)) return;
  const parent = turn.state.jobs.get(old);
  const refuse = (code: 'not_found' | 'invalid', message: string) =>
    turn.commands.push({ kind: 'reply_error', request, code, message });
  if (parent === undefined) {
    refuse('not_found', `there is no job ${old}`);
    return;
  }
  if (!isTerminal(parent.record.state)) {
    refuse('invalid', `job ${old} has not ended; it goes on by itself when there are workers`);
    return;
  }
  const usable = parent.checkpoints.filter((one) => one.damage === '' && (from === undefined || one.committed <= from));
  const chosen = usable.at(-1);
  if (chosen === undefined || (from !== undefined && chosen.committed !== from)) {
    const steps = parent.checkpoints.filter((one) => one.damage === '').map((one) => one.committed);
    const there = steps.length === 0 ? 'it has none' : `there are those of the steps ${steps.join(', ')}`;
    refuse(
      'not_found',
      `job ${old} has no ${from === undefined ? 'checkpoint' : `checkpoint of step ${from}`}: ${there}`,
    );
    return;
  }
  const { user, spec, bundle, output, checkpoints, facts } = parent.record;
  const record = newRecord(turn, {
    job,
    operationId,
    user,
    spec,
    bundle,
    output,
    checkpoints,
    // Other data or another model would make of it something that is neither the old job nor a new one.
    facts,
    resumedFrom: old,
    progress: chosen.progress,
  });
  const doubtful = turn.state.doubtfulSubmits.get(operationId);
  writeSubmit(turn, request, doubtful ?? { record, checkpoints: usable });
}

/** Whether etcd has it is not known for sure. */
export function submitFailed(
  turn: Turn,
  { requests, record, checkpoints }: Extract<Pending, { kind: 'submit' }>,
  reason: string,
): void {
  const { doubtfulSubmits } = turn.state;
  doubtfulSubmits.set(record.operationId, { record, checkpoints });
  const [oldest] = doubtfulSubmits.keys();
  if (doubtfulSubmits.size > MAX_DOUBTFUL_SUBMITS && oldest !== undefined) doubtfulSubmits.delete(oldest);
  const message = `etcd did not store the job: ${reason}`;
  for (const request of requests) turn.commands.push({ kind: 'reply_error', request, code: 'not_stored', message });
}

export function submitStored(
  turn: Turn,
  { requests, record, checkpoints, forgets }: Extract<Pending, { kind: 'submit' }>,
): void {
  turn.state.doubtfulSubmits.delete(record.operationId);
  if (forgets !== undefined) forget(turn.state, forgets);
  const run = newRun(record, undefined, { kind: 'gathering', sinceMs: turn.nowMs });
  run.checkpoints = checkpoints;
  run.saving.lastMs = turn.nowMs;
  turn.state.jobs.set(record.job, run);
  emit(turn, run, { kind: 'jobQueued', name: record.spec.name });
  logJob(turn, run, 'info', 'job queued', { job_name: record.spec.name, user: record.user });
  for (const request of requests) turn.commands.push({ kind: 'reply', request, job: record.job });
  settle(turn);
}

export function cancel(turn: Turn, { request, job, checkpoint }: Extract<CoordinatorEvent, { kind: 'cancel' }>): void {
  const run = turn.state.jobs.get(job);
  if (run === undefined) {
    turn.commands.push({ kind: 'reply_error', request, code: 'not_found', message: `there is no job ${job}` });
  } else if (isTerminal(run.record.state)) {
    turn.commands.push({ kind: 'reply', request, job });
  } else if (checkpoint && run.formation.kind !== 'started') {
    const message = `job ${job} is not training now, so there is nothing to save; it was not cancelled`;
    turn.commands.push({ kind: 'reply_error', request, code: 'save_failed', message });
  } else if (checkpoint) {
    run.saving.cancels.push(request);
    advanceSaving(turn, run);
  } else {
    run.cancelRequests.push(request);
    endJob(turn, run, 'cancelled', 'cancelled by a user', '');
  }
}
