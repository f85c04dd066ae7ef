/** Which job people mean who say its id or its name. */
import { type CoordinatorState, isTerminal, type JobRun } from './state.js';

const MOST_LISTED = 5;

export type Referred =
  | { readonly kind: 'job'; readonly run: JobRun }
  /** There is none, or it is not clear which. */
  | { readonly kind: 'unclear'; readonly problem: string };

/**
 * An id is of one job. Of the jobs of one name the one that has not ended is meant, and if all have ended, the newest. Where that leaves a
 * choice, or where others have jobs of that name, too, the id has to be said: nobody is to cancel a job by accident.
 */
export function jobOf(state: CoordinatorState, reference: string): Referred {
  const byId = state.jobs.get(reference);
  if (byId !== undefined) return { kind: 'job', run: byId };
  const named = [...state.jobs.values()]
    .filter(({ record }) => record.spec.name === reference)
    .sort((left, right) => right.record.submittedMs - left.record.submittedMs);
  const [newest] = named;
  if (newest === undefined) return { kind: 'unclear', problem: `there is no job ${JSON.stringify(reference)}` };
  const open = named.filter(({ record }) => !isTerminal(record.state));
  const users = new Set(named.map(({ record }) => record.user));
  if (users.size > 1 || open.length > 1) {
    return { kind: 'unclear', problem: choiceOf(reference, users.size > 1 ? named : open) };
  }
  return { kind: 'job', run: open[0] ?? newest };
}

function choiceOf(name: string, runs: readonly JobRun[]): string {
  const listed = runs.slice(0, MOST_LISTED).map(({ record: { job, user, state, submittedMs } }) => {
    const at = new Date(submittedMs).toISOString().slice(0, 19);
    return `${job} (${state}, ${user}, ${at}Z)`;
  });
  const more = runs.length > MOST_LISTED ? `, and ${runs.length - MOST_LISTED} older ones` : '';
  return `${runs.length} jobs are named ${name}; say the id of one: ${listed.join(', ')}${more}`;
}
