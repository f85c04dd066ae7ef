/** What a job did and printed takes megabytes: of jobs that have ended it is kept of the latest only; of the others, how they ended. */
import { forgetLines } from './job_logs.js';
import { type CoordinatorState, isTerminal, type JobRun } from './state.js';

const MOST_IN_FULL = 100;

/** The last event of the job was said. */
export function rememberEnd(state: CoordinatorState, run: JobRun): void {
  state.recentlyEnded.push(run.record.job);
  const [oldest = ''] = state.recentlyEnded;
  if (state.recentlyEnded.length <= MOST_IN_FULL) return;
  state.recentlyEnded.shift();
  const forgotten = state.jobs.get(oldest);
  if (forgotten === undefined) return;
  forgotten.events.forget(forgotten.events.length - 1);
  forgetLines(state, forgotten);
}

/** Whether lines that come late have a place. */
export function takesLines(state: CoordinatorState, run: JobRun): boolean {
  return !isTerminal(run.record.state) || state.recentlyEnded.includes(run.record.job);
}

/** The job makes room for another one: nothing is left of it. */
export function forget(state: CoordinatorState, job: string): void {
  const run = state.jobs.get(job);
  if (run !== undefined) forgetLines(state, run);
  state.jobs.delete(job);
  const place = state.recentlyEnded.indexOf(job);
  if (place >= 0) state.recentlyEnded.splice(place, 1);
}
