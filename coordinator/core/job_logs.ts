/**
 * What the workers of a job have printed: the newest lines within a bound, each once. Workers say again what they have kept whenever a
 * session begins, and number their lines, so what is known is passed over. A new leader first collects for a moment, so that what comes
 * from one worker after the other is in the order of time before anybody reads it.
 */
import type { LogEntry } from '../../shared/wire/jobs.js';
import type { LogLine } from '../../shared/wire/session.js';
import { type CoordinatorState, isTerminal, type JobRun, type Worker } from './state.js';
import type { Turn } from './turn.js';

/** What a line costs beside its text, so that empty lines are bounded, too. */
const LINE_COST = 64;
/** While lines are collected their order is not known yet, so the oldest are dropped by and by. */
const COLLECTED_FACTOR = 2;

export interface JobLogs {
  readonly lines: LogEntry[];
  bytes: number;
  /** Lines that were dropped from the front of `lines`. */
  dropped: number;
  /** Lines are collected, and read by nobody, until the leader ends that. */
  collects: boolean;
  /** The newest number that each worker has said. */
  readonly heard: Map<string, { readonly incarnation: string; readonly number: number }>;
}

/** Which lines a reader wants. Empty, or undefined: all of them. */
export interface LogSelection {
  readonly worker: string;
  readonly attempt: number | undefined;
}

export function newLogs(): JobLogs {
  return { lines: [], bytes: 0, dropped: 0, collects: false, heard: new Map() };
}

export function addLines(turn: Turn, run: JobRun, worker: Worker, lines: readonly LogLine[]): void {
  const { logs } = run;
  const { worker: name, incarnation } = worker;
  const known = logs.heard.get(name);
  let number = known?.incarnation === incarnation ? known.number : 0;
  for (const line of lines) {
    if (line.number <= number) continue;
    number = line.number;
    run.attempts.set(name, Math.max(run.attempts.get(name) ?? 0, line.attempt));
    add(turn.state, logs, { ...line, worker: name, incarnation });
  }
  logs.heard.set(name, { incarnation, number });
  bound(turn.state, run);
  turn.commands.push({ kind: 'publish', job: run.record.job });
}

function costOf({ text }: LogEntry): number {
  return text.length + LINE_COST;
}

function add(state: CoordinatorState, logs: JobLogs, entry: LogEntry): void {
  logs.lines.push(entry);
  logs.bytes += costOf(entry);
  state.logBytes += costOf(entry);
}

/** Keeps the newest lines within the bounds of a job and of all of them. */
function bound(state: CoordinatorState, run: JobRun): void {
  const { logBytesLimit, allLogBytesLimit } = state.settings;
  const { logs } = run;
  if (!logs.collects) dropTo(state, logs, logBytesLimit);
  else if (logs.bytes > COLLECTED_FACTOR * logBytesLimit) {
    putInOrder(logs);
    dropTo(state, logs, logBytesLimit);
  }
  while (state.logBytes > allLogBytesLimit) {
    const { run: victim, ended } = leastMissed(state, run);
    dropTo(state, victim.logs, ended ? 0 : Math.floor(victim.logs.bytes / 2));
  }
}

/** The job that has ended and printed longest ago; if none has ended, the one with the most. */
function leastMissed(state: CoordinatorState, asked: JobRun): { readonly run: JobRun; readonly ended: boolean } {
  let ended: JobRun | undefined;
  let largest = asked;
  const lastMs = ({ logs }: JobRun): number => logs.lines.at(-1)?.timeMs ?? 0;
  for (const run of state.jobs.values()) {
    if (run.logs.lines.length === 0) continue;
    if (run.logs.bytes > largest.logs.bytes) largest = run;
    if (run === asked || !isTerminal(run.record.state)) continue;
    if (ended === undefined || lastMs(run) < lastMs(ended)) ended = run;
  }
  return ended === undefined ? { run: largest, ended: false } : { run: ended, ended: true };
}

function dropTo(state: CoordinatorState, logs: JobLogs, limit: number): void {
  let surplus = 0;
  for (const entry of logs.lines) {
    if (logs.bytes <= limit) break;
    logs.bytes -= costOf(entry);
    state.logBytes -= costOf(entry);
    surplus += 1;
  }
  logs.lines.splice(0, surplus);
  logs.dropped += surplus;
}

export function forgetLines(state: CoordinatorState, { logs }: JobRun): void {
  dropTo(state, logs, 0);
}

/** By time, but each worker's lines in the order of their numbers, whatever its clock did. */
function putInOrder(logs: JobLogs): void {
  const newest = new Map<string, number>();
  const timed = logs.lines.map((entry) => {
    const source = `${entry.worker} ${entry.incarnation}`;
    const atMs = Math.max(entry.timeMs, newest.get(source) ?? 0);
    newest.set(source, atMs);
    return { entry, atMs };
  });
  timed.sort((left, right) => left.atMs - right.atMs);
  logs.lines.splice(0, logs.lines.length, ...timed.map(({ entry }) => entry));
}

/** Called at each tick: what was collected can be read. */
export function endCollecting(turn: Turn): void {
  const { state, nowMs } = turn;
  if (state.collectsUntilMs === undefined || nowMs < state.collectsUntilMs) return;
  state.collectsUntilMs = undefined;
  for (const run of state.jobs.values()) {
    const { logs } = run;
    if (!logs.collects) continue;
    logs.collects = false;
    putInOrder(logs);
    bound(state, run);
    turn.commands.push({ kind: 'publish', job: run.record.job });
  }
}

/** Whether there is an order in which lines can be read. */
export function isReadable({ logs }: JobRun): boolean {
  return !logs.collects;
}

/** Number of the line that comes next. */
export function nextLine({ logs }: JobRun): number {
  return logs.dropped + logs.lines.length;
}

/** The first line that is wanted and kept at or after number `line` of the job, and its number. Without one, where the next search begins. */
export function lineFrom(
  run: JobRun,
  line: number,
  wanted: LogSelection,
): { readonly entry: LogEntry | undefined; readonly line: number } {
  const { lines, dropped } = run.logs;
  const end = nextLine(run);
  for (let kept = Math.max(line, dropped); kept < end; kept++) {
    const entry = lines[kept - dropped];
    if (entry !== undefined && isWanted(entry, wanted)) return { entry, line: kept };
  }
  return { entry: undefined, line: Math.max(line, end) };
}

/** Number of the first of the newest `count` lines that are wanted. */
export function tailOf(run: JobRun, wanted: LogSelection, count: number): number {
  const { lines, dropped } = run.logs;
  let left = count;
  let index = lines.length;
  while (index > 0 && left > 0) {
    index -= 1;
    const entry = lines[index];
    if (entry !== undefined && isWanted(entry, wanted)) left -= 1;
  }
  return dropped + index;
}

function isWanted(entry: LogEntry, { worker, attempt }: LogSelection): boolean {
  return (worker === '' || entry.worker === worker) && (attempt === undefined || entry.attempt === attempt);
}

/** Why nobody can have printed what is wanted, so far; undefined if somebody may have. */
export function problemOfSelection(
  { record, attempts }: JobRun,
  { worker, attempt }: LogSelection,
): string | undefined {
  const job = `job ${record.job}`;
  if (worker !== '' && !attempts.has(worker)) {
    const names = [...attempts.keys()].sort();
    const had = names.length === 0 ? 'no worker has had it' : `it was given to ${names.slice(0, 20).join(', ')}`;
    return `${job} was never given to worker ${worker}: ${had}`;
  }
  const most = worker === '' ? Math.max(0, ...attempts.values()) : (attempts.get(worker) ?? 0);
  if (attempt === undefined || attempt <= most) return undefined;
  const whose = worker === '' ? 'no worker has' : `worker ${worker} has not`;
  return `${whose} made attempt ${attempt} of ${job}: there were ${most}`;
}
