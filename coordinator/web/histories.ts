/** The histories of the jobs, of a bounded number of them. */
import type { JobRun } from '../core/state.js';
import { hasEnded } from '../core/views.js';
import { JobHistory } from './job_history.js';

/** About 200 KiB each at most. */
const MAX_HISTORIES = 256;

export class Histories {
  readonly #max: number;
  readonly #histories = new Map<string, JobHistory>();

  constructor(max = MAX_HISTORIES) {
    this.#max = max;
  }

  /** Of a job whose events are read; undefined if there was no room for it. */
  of(job: string): JobHistory | undefined {
    return this.#histories.get(job);
  }

  clear(): void {
    this.#histories.clear();
  }

  /** Reads the new events of a job. `runs` tells which jobs have ended: only they make room for others. */
  read(run: JobRun, runs: ReadonlyMap<string, JobRun>): JobHistory | undefined {
    const { job } = run.record;
    const history = this.#histories.get(job) ?? this.#begin(job, runs);
    history?.read(run);
    return history;
  }

  #begin(job: string, runs: ReadonlyMap<string, JobRun>): JobHistory | undefined {
    if (this.#histories.size >= this.#max && !this.#makeRoom(runs)) return undefined;
    const history = new JobHistory();
    this.#histories.set(job, history);
    return history;
  }

  /** The job that ended longest ago; read again, from what the core keeps, if somebody looks at it. */
  #makeRoom(runs: ReadonlyMap<string, JobRun>): boolean {
    let oldest: string | undefined;
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const [job, { touchedMs }] of this.#histories) {
      const run = runs.get(job);
      if ((run !== undefined && !hasEnded(run)) || touchedMs >= oldestMs) continue;
      oldest = job;
      oldestMs = touchedMs;
    }
    return oldest !== undefined && this.#histories.delete(oldest);
  }
}
