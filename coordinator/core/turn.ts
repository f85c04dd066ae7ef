/** One turn of the core: an event comes in, commands go out. What every part of the core uses to speak. */
import type { JobEvent } from '../../shared/wire/jobs.js';
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { CoordinatorCommand } from './command.js';
import type { CheckpointRecord, CoordinatorState, JobRun, Leading, Pending, Put, Worker } from './state.js';

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
type EventBody = DistributiveOmit<JobEvent, 'sequence' | 'timeMs' | 'job'>;
type MessageBody = DistributiveOmit<CoordinatorMessage, 'term'>;

/**
 * Sequence numbers of a term begin at term * 2^18: later terms continue above whatever an earlier one has given out, for a term is a revision
 * of etcd, and steps are stored far more often than once in so many events. They stay whole numbers for 2^35 revisions: a hundred a second
 * for ten years.
 */
const EVENTS_PER_TERM = 2 ** 18;
/** Checkpoints of a job whose removal the next leader sees to. */
const MOST_REMOVING = 100;

export interface Turn {
  readonly state: CoordinatorState;
  readonly leading: Leading;
  readonly nowMs: number;
  readonly wallMs: number;
  readonly commands: CoordinatorCommand[];
}

export function send(turn: Turn, worker: Worker, body: MessageBody): void {
  sendAll(turn, [worker], body);
}

/** The same message to each of them: one object, so that io/ turns it into bytes once. */
export function sendAll(turn: Turn, workers: readonly Worker[], body: MessageBody): void {
  const message: CoordinatorMessage = { ...body, term: turn.leading.term };
  for (const { session } of workers) turn.commands.push({ kind: 'send', session, message });
}

export function emit(turn: Turn, run: JobRun, body: EventBody): void {
  keep(turn, run, { ...body, sequence: nextSequence(turn), timeMs: turn.wallMs, job: run.record.job });
}

export function nextSequence(turn: Turn): number {
  turn.leading.eventCounter += 1;
  return turn.leading.term * EVENTS_PER_TERM + turn.leading.eventCounter;
}

/** An event that is whole: to put one of a step together from parts would be a tenth of what a report costs. */
export function keep(turn: Turn, run: JobRun, event: JobEvent): void {
  run.events.add(event);
  const { eventLimit } = turn.state.settings;
  if (run.events.length > eventLimit) run.events.forget(Math.ceil(eventLimit / 10));
  turn.commands.push({ kind: 'publish', job: run.record.job });
}

export function log(
  turn: Turn,
  level: 'info' | 'warn' | 'error',
  message: string,
  fields: Readonly<Record<string, string | number>> = {},
): void {
  turn.commands.push({ kind: 'log', level, message, fields });
}

/** A line about a job, with where it stands. */
export function logJob(
  turn: Turn,
  run: JobRun,
  level: 'info' | 'warn' | 'error',
  message: string,
  fields: Readonly<Record<string, string | number>> = {},
): void {
  const { job, progress } = run.record;
  log(turn, level, message, { job, step: progress.committed, generation: run.generation, ...fields });
}

/** Begins a write; `pending` is what is done when etcd has it. */
export function write(turn: Turn, pending: Pending): void {
  turn.leading.operationCounter += 1;
  attempt(turn, `${turn.leading.term}-${turn.leading.operationCounter}`, pending);
}

/**
 * What is written is taken from the state at each attempt anew: a repeated write must not set back what a later one stored. Once the
 * end of a job is on its way nothing else is written of it: the end is not in the state until it is stored, and would be overwritten.
 */
export function attempt(turn: Turn, operation: string, pending: Pending): void {
  if (isOfOpenJob(pending) && turn.state.jobs.get(pending.job)?.ending === true) {
    turn.state.writes.delete(operation);
    return;
  }
  turn.state.writes.set(operation, { pending, retryMs: undefined });
  const forgets = pending.kind === 'submit' && pending.forgets !== undefined ? [pending.forgets] : [];
  const puts = putsOf(turn.state, pending);
  turn.commands.push({ kind: 'write', term: turn.leading.term, operation, puts, forgets });
}

function isOfOpenJob(
  pending: Pending,
): pending is Extract<Pending, { readonly kind: 'generation' | 'progress' | 'facts' | 'checkpoints' }> {
  return pending.kind !== 'submit' && pending.kind !== 'end' && pending.kind !== 'node' && pending.kind !== 'accounts';
}

function putRun(run: JobRun | undefined): readonly Put[] {
  return run === undefined ? [] : [{ kind: 'job', record: { ...run.record, spent: run.spent } }];
}

function putCheckpoints(
  job: string,
  checkpoints: readonly CheckpointRecord[],
  removing: Iterable<string> = [],
): readonly Put[] {
  if (checkpoints.length === 0) return [];
  return [{ kind: 'checkpoints', record: { job, checkpoints, removing: [...removing].slice(-MOST_REMOVING) } }];
}

function putsOf(state: CoordinatorState, pending: Pending): readonly Put[] {
  switch (pending.kind) {
    case 'submit':
      return [{ kind: 'job', record: pending.record }, ...putCheckpoints(pending.record.job, pending.checkpoints)];
    case 'end':
      return [{ kind: 'job', record: pending.record }];
    case 'node':
      return [{ kind: 'node', record: pending.record }];
    case 'accounts':
      return [{ kind: 'accounts', record: pending.record }];
    case 'generation': {
      const { record } = pending;
      return [{ kind: 'generation', record }, ...putRun(state.jobs.get(record.job))];
    }
    case 'progress':
    case 'facts':
      return putRun(state.jobs.get(pending.job));
    case 'checkpoints': {
      const run = state.jobs.get(pending.job);
      return putCheckpoints(pending.job, run?.checkpoints ?? [], run?.saving.removing);
    }
  }
}
