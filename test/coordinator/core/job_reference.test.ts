import { describe, expect, it } from 'vitest';
import { jobOf } from '../../../coordinator/core/job_reference.js';
import type { CoordinatorState, JobRecord } from '../../../coordinator/core/state.js';
import { addJob, leadingState } from '../web/known_jobs.js';

/** Jobs named x, submitted a second after the other. */
function clusterOf(...jobs: readonly Partial<JobRecord>[]): CoordinatorState {
  const state = leadingState();
  jobs.forEach((change, index) => {
    const run = addJob(state, `j${index + 1}`);
    run.record = { ...run.record, submittedMs: 1000 * index, ...change };
  });
  return state;
}

const meant = (state: CoordinatorState, reference: string): string => {
  const found = jobOf(state, reference);
  return found.kind === 'job' ? found.run.record.job : found.problem;
};

const finished = { state: 'finished' } as const;
const queued = { state: 'queued' } as const;

describe('a name', () => {
  it('means the one job that has not ended, whether older or newer than the others', () => {
    expect(meant(clusterOf(finished, {}, finished), 'x')).toBe('j2');
    expect(meant(clusterOf(finished, queued), 'x')).toBe('j2');
  });

  it('means the newest if all have ended', () => {
    expect(meant(clusterOf(finished, { state: 'failed' }, { ...finished, submittedMs: 1 }), 'x')).toBe('j2');
  });

  it('is not enough where two go on', () => {
    expect(meant(clusterOf(finished, {}, queued), 'x')).toBe(
      '2 jobs are named x; say the id of one: j3 (queued, ann, 1970-01-01T00:00:02Z), j2 (running, ann, 1970-01-01T00:00:01Z)',
    );
  });

  it("is not enough where it is another user's, too", () => {
    const problem = meant(clusterOf(finished, { user: 'bob' }), 'x');
    expect(problem).toMatch(/^2 jobs are named x; .* j2 \(running, bob, .*\), j1 \(finished, ann, .*\)$/);
  });

  it('of which there are many is listed in part', () => {
    expect(meant(clusterOf(...Array.from({ length: 7 }, () => queued)), 'x')).toMatch(/^7 jobs .*, and 2 older ones$/);
  });

  it('that nobody has means none', () => {
    expect(meant(clusterOf(queued), 'y')).toBe('there is no job "y"');
  });
});

it('an id is an id, whatever else is named so', () => {
  expect(meant(clusterOf(queued, queued), 'j1')).toBe('j1');
});
