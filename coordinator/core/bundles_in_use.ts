/** Which code the jobs refer to, as a pure function of the state. */
import { sha256OfReference } from '../../shared/bundle/reference.js';
import { type CoordinatorState, isTerminal, type JobRecord } from './state.js';

export interface BundlesInUse {
  /** Of jobs that have not ended, or may have been stored: digests that must be there. */
  readonly needed: ReadonlySet<string>;
  /** Of jobs that have ended and could be resumed or submitted again; those of the oldest jobs first. */
  readonly remembered: readonly string[];
}

export function bundlesInUse(state: CoordinatorState): BundlesInUse {
  const jobs = [...state.jobs.values()].map(({ record }) => record);
  const underWay = [...state.writes.values()].flatMap(({ pending }) =>
    pending.kind === 'submit' ? pending.record : [],
  );
  const doubtful = [...state.doubtfulSubmits.values()].map(({ record }) => record);
  const open = jobs.filter((record) => !isTerminal(record.state));
  const needed = new Set([...open, ...underWay, ...doubtful].flatMap(digestOf));
  // Of a bundle that several jobs have, the newest counts.
  const newestFirst = jobs.sort((left, right) => right.submittedMs - left.submittedMs).flatMap(digestOf);
  const remembered = [...new Set(newestFirst)].filter((digest) => !needed.has(digest)).reverse();
  return { needed, remembered };
}

function digestOf({ bundle }: JobRecord): readonly string[] {
  const digest = sha256OfReference(bundle);
  return digest === undefined ? [] : [digest];
}
