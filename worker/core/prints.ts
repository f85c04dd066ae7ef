/**
 * What the user's code printed. The newest lines of the newest jobs are kept, said when they are printed, and said again at the beginning
 * of each session: whoever leads knows by their numbers which of them are new, and a new leader has what the old one had, within a bound.
 */
import type { LogLine } from '../../shared/wire/session.js';
import type { PrintedLine } from './event.js';
import type { JobRun } from './state.js';
import { send, type Turn } from './turn.js';

/** Together the workers of a job keep about as much of its prints as a coordinator does. */
const CHARACTERS_OF_JOB = 1_048_576;
const MOST_CHARACTERS = 262_144;
const LEAST_CHARACTERS = 4_096;
/** What a line costs beside its text. */
const LINE_COST = 64;
export const JOBS_KEPT = 4;
/** Of 8 Ki characters each, with three bytes a character, they fit the 4 MiB of a message. */
const LINES_A_MESSAGE = 128;

export interface Prints {
  /** Oldest first. */
  readonly lines: LogLine[];
  characters: number;
  limit: number;
}

function costOf({ text }: LogLine): number {
  return text.length + LINE_COST;
}

export function printed(turn: Turn, run: JobRun, printedLines: readonly PrintedLine[]): void {
  const prints = printsOf(turn, run);
  const lines = printedLines.map((line) => numbered(turn, run, line));
  for (const line of lines) {
    prints.lines.push(line);
    prints.characters += costOf(line);
  }
  trim(prints, run);
  if (turn.state.session === 'up') say(turn, run.job, lines);
}

/** Also of jobs that it does not have any more: they may have ended under a leader that is gone. */
export function replayPrints(turn: Turn): void {
  const { run, prints } = turn.state;
  for (const [job, kept] of prints) {
    if (run?.job === job) trim(kept, run);
    say(turn, job, kept.lines);
  }
}

function numbered({ state }: Turn, { attempt, generation, committed }: JobRun, line: PrintedLine): LogLine {
  state.linesPrinted += 1;
  return { ...line, attempt, generation, step: committed, number: state.linesPrinted };
}

function printsOf({ state: { prints } }: Turn, { job }: JobRun): Prints {
  const known = prints.get(job);
  if (known !== undefined) return known;
  const [oldest] = prints.keys();
  if (prints.size >= JOBS_KEPT && oldest !== undefined) prints.delete(oldest);
  const made = { lines: [], characters: 0, limit: MOST_CHARACTERS };
  prints.set(job, made);
  return made;
}

/** The more workers a job has, the less each keeps: a new leader hears them all at once. */
function trim(prints: Prints, { membership }: JobRun): void {
  if (membership !== undefined) {
    const share = Math.floor(CHARACTERS_OF_JOB / membership.roster.length);
    prints.limit = Math.min(MOST_CHARACTERS, Math.max(LEAST_CHARACTERS, share));
  }
  let surplus = 0;
  for (const line of prints.lines) {
    if (prints.characters <= prints.limit) break;
    prints.characters -= costOf(line);
    surplus += 1;
  }
  prints.lines.splice(0, surplus);
}

function say(turn: Turn, job: string, lines: readonly LogLine[]): void {
  for (let from = 0; from < lines.length; from += LINES_A_MESSAGE) {
    send(turn, { kind: 'logLines', job, lines: lines.slice(from, from + LINES_A_MESSAGE) });
  }
}
