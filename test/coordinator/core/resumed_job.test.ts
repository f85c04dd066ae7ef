import { expect, it } from 'vitest';
import type { CoordinatorCommand } from '../../../coordinator/core/command.js';
import { checkpointRecord, FACTS, jobRecord, LoneLeader } from './lone_leader.js';

/** A leader that finds the job, and one worker whose engine has just loaded it. */
function runFrom(damage: string): readonly CoordinatorCommand[] {
  const saved = checkpointRecord({ job: 'old', damage });
  const leader = new LoneLeader(jobRecord([], { resumedFrom: 'old', facts: FACTS, progress: saved.progress }), [saved]);
  leader.hello('w1');
  leader.loaded('w1');
  leader.prepared('w1', 1);
  return leader.commands;
}

const written = (commands: readonly CoordinatorCommand[]) =>
  commands.flatMap((command) => (command.kind === 'write' ? command.puts : []));

it('a job that continues another begins at the step of the checkpoint', () => {
  expect(written(runFrom(''))).toContainEqual(
    expect.objectContaining({ kind: 'generation', record: expect.objectContaining({ committed: 5 }) }),
  );
});

it('a job that continues another fails when the checkpoint is damaged, rather than begin anew', () => {
  const puts = written(runFrom('a flipped bit'));
  expect(puts.some(({ kind }) => kind === 'generation')).toBe(false);
  const reason = 'no checkpoint of job old can be restored';
  expect(puts).toContainEqual({ kind: 'job', record: expect.objectContaining({ state: 'failed', reason }) });
});
