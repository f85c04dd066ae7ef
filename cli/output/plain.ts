/** Lines for people where there is no terminal: all events, but steps only about once a second. */
import type { JobEvent, LogEntry } from '../../shared/wire/jobs.js';
import { eventLine, logLine, progressLine } from './event_line.js';
import { type Output, type ReadyCluster, readyLine, type Write } from './output.js';
import { Progress } from './progress.js';

const STEP_INTERVAL_MS = 1000;

export class PlainOutput implements Output {
  readonly showsLogs = true;
  readonly #progress = new Progress();
  #lastStepMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly write: Write) {}

  ready(cluster: ReadyCluster): void {
    this.note(readyLine(cluster));
  }

  event(event: JobEvent): void {
    if (event.kind !== 'stepCommitted') {
      this.note(eventLine(event));
      return;
    }
    const now = this.#progress.step(event);
    // The clock of another leader may be behind.
    if (Math.abs(event.timeMs - this.#lastStepMs) < STEP_INTERVAL_MS && now.done !== now.total) return;
    this.#lastStepMs = event.timeMs;
    this.note(progressLine(now));
  }

  log(entry: LogEntry): void {
    this.note(logLine(entry));
  }

  note(text: string): void {
    this.write(`${text}\n`);
  }

  close(): void {
    // Nothing is held back.
  }
}
