/** How a job ends: the end is in etcd before anybody hears of it, and it is the only one. */
import { accountNow } from './accounting.js';
import { assignedTo } from './assignment.js';
import { rememberEnd } from './recently_ended.js';
import { release } from './release.js';
import { isTerminal, type JobRecord, type JobRun } from './state.js';
import { emit, logJob, type Turn, write } from './turn.js';

type End = Pick<JobRecord, 'state' | 'reason' | 'traceback'>;

function store(turn: Turn, run: JobRun, change: End & Partial<JobRecord>): void {
  if (run.ending || isTerminal(run.record.state)) return;
  run.ending = true;
  accountNow(turn);
  const record: JobRecord = { ...run.record, ...change, spent: run.spent };
  write(turn, { kind: 'end', job: record.job, record });
}

export function endJob(
  turn: Turn,
  run: JobRun,
  state: 'failed' | 'cancelled',
  reason: string,
  traceback: string,
): void {
  store(turn, run, { state, reason, traceback });
}

export function finishJob(turn: Turn, run: JobRun, weightsDigest: string, metrics: ReadonlyMap<string, number>): void {
  store(turn, run, {
    state: 'finished',
    reason: '',
    traceback: '',
    weightsDigest,
    metrics: Object.fromEntries(metrics),
  });
}

/** The end is in etcd: say so, and let the workers go. */
export function announceEnd(turn: Turn, run: JobRun, record: JobRecord): void {
  run.record = record;
  emitEnd(turn, run);
  logJob(turn, run, 'info', `job ${record.state}`, record.reason === '' ? {} : { reason: record.reason });
  for (const request of run.cancelRequests.splice(0)) {
    turn.commands.push({ kind: 'reply', request, job: record.job });
  }
  // Others get them when they are unloaded.
  for (const worker of assignedTo(turn.state, record.job)) release(turn, worker, `the job is ${record.state}`);
}

/** The last event of a job. */
export function emitEnd(turn: Turn, run: JobRun): void {
  const { record } = run;
  emit(turn, run, {
    kind: 'jobFinished',
    state: record.state,
    steps: record.progress.committed,
    loss: record.progress.loss ?? undefined,
    weightsDigest: record.weightsDigest,
    reason: record.reason,
    traceback: record.traceback,
    metrics: new Map(Object.entries(record.metrics)),
    output: record.state === 'finished' ? record.output : '',
  });
  rememberEnd(turn.state, run);
}
