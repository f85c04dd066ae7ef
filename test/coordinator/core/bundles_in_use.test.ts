import { describe, expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import { bundlesInUse } from '../../../coordinator/core/bundles_in_use.js';
import { DEFAULT_SETTINGS, initialState } from '../../../coordinator/core/state.js';
import { packedReference } from '../../../shared/bundle/reference.js';
import { parseJobSpec } from '../../../shared/job_spec.js';

const spec = parseJobSpec('version: 1\nname: x\ntask: a.py:A\nsteps: 2\nbatch: 4\nmicrobatches: 2');
const digest = (letter: string): string => letter.repeat(64);

/** A leader to whom jobs were submitted at the given times, with the bundles named by single letters. */
function leaderWith(...letters: readonly string[]) {
  const state = initialState({ ...DEFAULT_SETTINGS, name: 'c1' });
  let wallMs = 0;
  const tell = (event: Parameters<typeof apply>[1]['event']) => {
    wallMs += 1000;
    return apply(state, { nowMs: wallMs, wallMs, event });
  };
  tell({ kind: 'elected', term: 1, jobs: [], generations: [], checkpoints: [], nodes: [], accounts: undefined });
  const submit = (letter: string) => {
    const bundle = letter === '/' ? '/shared' : packedReference(digest(letter));
    const request = { operationId: `o${wallMs}`, spec, bundle, output: '/o', checkpoints: '/c', user: 'ann' };
    const commands = tell({ kind: 'submit', request: 'r', job: `j${wallMs}`, submit: request });
    const write = commands.find((command) => command.kind === 'write');
    return { job: `j${wallMs - 1000}`, operation: write?.kind === 'write' ? write.operation : '' };
  };
  const jobs = letters.map((letter) => {
    const submitted = submit(letter);
    tell({ kind: 'write_stored', operation: submitted.operation });
    return submitted.job;
  });
  const end = (job: string) => {
    const commands = tell({ kind: 'cancel', request: 'c', job, checkpoint: false });
    for (const command of commands) {
      if (command.kind === 'write') tell({ kind: 'write_stored', operation: command.operation });
    }
  };
  return { state, tell, submit, jobs, end };
}

describe('the bundles in use', () => {
  it('are needed while a job has not ended, and remembered afterwards, the oldest first', () => {
    const { state, jobs, end } = leaderWith('a', 'b', 'c', '/');
    expect(bundlesInUse(state).needed).toEqual(new Set([digest('a'), digest('b'), digest('c')]));
    for (const job of [jobs[1], jobs[0]]) end(job ?? '');
    expect(bundlesInUse(state)).toEqual({ needed: new Set([digest('c')]), remembered: [digest('a'), digest('b')] });
  });

  it('are remembered by the newest of the jobs that have them', () => {
    const { state, jobs, end } = leaderWith('a', 'b', 'a');
    for (const job of jobs) end(job);
    expect(bundlesInUse(state).remembered).toEqual([digest('b'), digest('a')]);
  });

  it('are needed from the moment of the submit on, and when nobody knows whether it was stored', () => {
    const { state, tell, submit } = leaderWith();
    const { operation } = submit('a');
    expect(bundlesInUse(state).needed).toEqual(new Set([digest('a')]));
    tell({ kind: 'write_failed', operation, reason: 'no answer' });
    expect(bundlesInUse(state).needed).toEqual(new Set([digest('a')]));
  });
});
