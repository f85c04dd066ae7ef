import { expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import type { CoordinatorCommand } from '../../../coordinator/core/command.js';
import type { CoordinatorEvent } from '../../../coordinator/core/event.js';
import { NOTHING_SPENT } from '../../../coordinator/core/spent.js';
import {
  type CheckpointRecord,
  type CoordinatorState,
  DEFAULT_SETTINGS,
  initialState,
  type JobRecord,
} from '../../../coordinator/core/state.js';
import { parseJobSpec } from '../../../shared/job_spec.js';
import type { EngineFacts, WorkerMessage } from '../../../shared/wire/session.js';

const facts: EngineFacts = {
  ...{
    vectorBytes: 64,
    bf16Bytes: 0,
    parameters: 1,
    datasetLength: 40,
    datasetDigest: 'd',
    fingerprint: 'f',
    initialState: 'i',
  },
  ...{ torch: '2', device: 'cpu', enginePid: 7 },
};
const progress = { committed: 5, loss: 0.1, samplesLost: 0, samplesRepeated: 0 };

function checkpoint(damage: string): CheckpointRecord {
  const digests = { manifestSha256: 'm', stateSha256: 's' };
  return { job: 'old', committed: 5, path: '/c/old/step-5', ...digests, bytes: 1, timeMs: 0, progress, damage };
}

const record: JobRecord = {
  ...{ job: 'new', operationId: 'op', user: 'ann', bundle: '/b', output: '/o', checkpoints: '/c', resumedFrom: 'old' },
  spec: parseJobSpec('{version: 1, name: x, task: "a.py:A", steps: 9, batch: 4, microbatches: 2}'),
  ...{ submittedMs: 0, state: 'queued', reason: '', traceback: '', weightsDigest: '', metrics: {}, facts, progress },
  restores: { count: 0, committed: 0 },
  spent: NOTHING_SPENT,
};

/** A leader that finds the job, and one worker whose engine has just loaded it. */
function runFrom(saved: CheckpointRecord): readonly CoordinatorCommand[] {
  const state: CoordinatorState = initialState({ ...DEFAULT_SETTINGS, name: 'c1' });
  const commands: CoordinatorCommand[] = [];
  const happen = (event: CoordinatorEvent) => commands.push(...apply(state, { nowMs: 0, wallMs: 0, event }));
  const say = (message: WorkerMessage) => happen({ kind: 'session_message', session: 's1', message });
  const checkpoints = [{ job: 'new', checkpoints: [saved] }];
  happen({ kind: 'elected', term: 1, jobs: [record], generations: [], checkpoints, nodes: [], accounts: undefined });
  const machine = { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 };
  const identity = { worker: 'w1', incarnation: 'w1#1', host: 'h', pid: 1, peerAddress: 'h:1', machine };
  say({ kind: 'hello', ...identity, term: 0, measures: false });
  say({ kind: 'loaded', job: 'new', facts, engineStart: 1 });
  const holding = {
    job: 'new',
    generation: 0,
    committed: 0,
    hasState: true,
    facts,
    engineStart: 1,
    started: false,
    attempt: 1,
  };
  say({ kind: 'prepared', job: 'new', generation: 1, holding, nodes: [], hasReduced: false });
  return commands;
}

const written = (commands: readonly CoordinatorCommand[]) =>
  commands.flatMap((command) => (command.kind === 'write' ? command.puts : []));

it('a job that continues another begins at the step of the checkpoint', () => {
  expect(written(runFrom(checkpoint('')))).toContainEqual(
    expect.objectContaining({ kind: 'generation', record: expect.objectContaining({ committed: 5 }) }),
  );
});

it('a job that continues another fails when the checkpoint is damaged, rather than begin anew', () => {
  const puts = written(runFrom(checkpoint('a flipped bit')));
  expect(puts.some(({ kind }) => kind === 'generation')).toBe(false);
  const reason = 'no checkpoint of job old can be restored';
  expect(puts).toContainEqual({ kind: 'job', record: expect.objectContaining({ state: 'failed', reason }) });
});
