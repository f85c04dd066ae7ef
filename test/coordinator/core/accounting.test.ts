import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { account, accountCopy, accountNow, accountStep } from '../../../coordinator/core/accounting.js';
import { enter, leave, move } from '../../../coordinator/core/assignment.js';
import { usageOf } from '../../../coordinator/core/fair_share.js';
import { NAMED } from '../../../coordinator/core/spent.js';
import type { CoordinatorState, GenerationRecord, JobRun } from '../../../coordinator/core/state.js';
import type { Turn } from '../../../coordinator/core/turn.js';
import type { Spent } from '../../../shared/wire/jobs.js';
import { addJob, addWorker, leadingState } from '../web/known_jobs.js';
import { knownWorker } from './known_worker.js';

function turnAt(state: CoordinatorState, nowMs: number): Turn {
  if (state.leading === undefined) throw new Error('does not lead');
  return { state, leading: state.leading, nowMs, wallMs: nowMs, commands: [] };
}

function generationOf(job: string, workers: readonly string[]): GenerationRecord {
  const member = { peerAddress: 'h:1', lo: 0, length: 1, heals: false, engineStart: 1 };
  const roster = workers.map((worker) => ({ worker, incarnation: `${worker}#1`, ...member }));
  return { job, generation: 1, term: 1, committed: 0, roster, attempts: {} };
}

/** Its workers train. */
function train(state: CoordinatorState, run: JobRun): void {
  const { job } = run.record;
  const workers = [...(state.byJob.get(job) ?? [])].map(({ worker }) => worker);
  run.lastRecord = generationOf(job, workers);
  run.formation = { kind: 'started', record: run.lastRecord, sinceMs: 0, restores: undefined };
}

function named(spent: Spent): number {
  return NAMED.reduce((sum, name) => sum + spent[name], 0);
}

function clusterSeconds({ cluster }: CoordinatorState): number {
  return Object.values(cluster.unused).reduce((sum, one) => sum + one, cluster.jobs.workerSeconds);
}

const STEP = { stepMs: 100, dataMs: 5, computeMs: 55, reduceMs: 15, gatherMs: 5, applyMs: 10 };

describe('the time of the workers of a job', () => {
  it('is loading until its first generation, then what the steps say, and the rest is waiting', () => {
    const state = leadingState();
    const run = addJob(state, 'a');
    for (const name of ['w1', 'w2']) addWorker(state, name, 'a');
    accountNow(turnAt(state, 1_000));
    expect(run.spent).toMatchObject({ workerSeconds: 2, loadingSeconds: 2, waitingSeconds: 0 });
    train(state, run);
    for (let step = 0; step < 10; step++) accountStep(run, STEP, false);
    accountNow(turnAt(state, 2_000));
    expect(run.spent.dataSeconds).toBeCloseTo(0.1);
    expect(run.spent.computeSeconds).toBeCloseTo(1.1);
    expect(run.spent.reduceSeconds).toBeCloseTo(0.3);
    expect(run.spent.gatherSeconds).toBeCloseTo(0.1);
    expect(run.spent.applySeconds).toBeCloseTo(0.2);
    expect(run.spent.waitingSeconds).toBeCloseTo(0.2);
    expect(run.spent.workerSeconds).toBe(4);
  });

  it('is recovery while it pauses, and where steps are made again; copies of the state are checkpoints', () => {
    const state = leadingState();
    const run = addJob(state, 'a');
    addWorker(state, 'w1', 'a');
    train(state, run);
    run.pause = { sinceMs: 0 };
    accountNow(turnAt(state, 500));
    expect(run.spent).toMatchObject({ workerSeconds: 0.5, recoverySeconds: 0.5 });
    run.pause = undefined;
    accountStep(run, STEP, true);
    accountCopy(run, 50);
    accountNow(turnAt(state, 1_000));
    expect(run.spent.recoverySeconds).toBeCloseTo(0.6);
    expect(run.spent.checkpointSeconds).toBeCloseTo(0.05);
  });

  it('is never more than passed: reports of steps that an older leader did not count are cut', () => {
    const state = leadingState();
    const run = addJob(state, 'a');
    addWorker(state, 'w1', 'a');
    train(state, run);
    for (let step = 0; step < 100; step++) accountStep(run, STEP, false);
    accountNow(turnAt(state, 900));
    expect(run.spent.workerSeconds).toBe(0.9);
    expect(run.spent.computeSeconds).toBeCloseTo(0.55);
    expect(run.spent.waitingSeconds).toBeCloseTo(0);
  });

  it('a job without workers waits for its minimum, and nobody has used anything', () => {
    const state = leadingState();
    const run = addJob(state, 'a');
    accountNow(turnAt(state, 2_000));
    expect(run.spent).toMatchObject({ workerSeconds: 0, queuedSeconds: 2 });
    expect(run.waitedMs).toBe(2_000);
    expect(usageOf(state.usages, 'ann', 2_000)).toBe(0);
  });
});

it('what no job has is idle, cordoned, quarantined or leaving', () => {
  const state = leadingState();
  const ended = addJob(state, 'ended');
  ended.record = { ...ended.record, state: 'finished' };
  for (const name of ['idle', 'cordoned', 'leaving']) addWorker(state, name);
  addWorker(state, 'unloads', 'ended');
  state.nodes.set('cordoned', { worker: 'cordoned', cordoned: 'new fan' });
  enter(state, { ...knownWorker('leaving', undefined), leaving: true });
  accountNow(turnAt(state, 3_000));
  expect(state.cluster.unused).toEqual({
    ...{ idleSeconds: 3, cordonedSeconds: 3, quarantinedSeconds: 0, leavingSeconds: 6 },
  });
});

it('whatever workers and jobs do, every second of every worker is in exactly one class', () => {
  const worker = fc.constantFrom('w1', 'w2', 'w3');
  const job = fc.constantFrom('a', 'b');
  const act = fc.oneof(
    fc.record({ kind: fc.constant('passes'), ms: fc.integer({ min: 0, max: 3_000 }) }),
    fc.record({ kind: fc.constant('comes'), worker }),
    fc.record({ kind: fc.constant('goes'), worker }),
    fc.record({ kind: fc.constant('moves'), worker, job: fc.option(job, { nil: undefined }) }),
    fc.record({ kind: fc.constant('trains'), job }),
    fc.record({ kind: fc.constant('pauses'), job }),
    fc.record({ kind: fc.constant('ends'), job }),
    fc.record({ kind: fc.constant('steps'), job, ms: fc.integer({ min: 0, max: 900 }), again: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
      const state = leadingState();
      const runs = new Map(['a', 'b'].map((name) => [name, addJob(state, name)]));
      let nowMs = 0;
      let seconds = 0;
      for (const one of acts) {
        const run = 'job' in one ? runs.get(one.job ?? '') : undefined;
        const known = 'worker' in one ? state.workers.get(one.worker) : undefined;
        if (one.kind === 'passes' && 'ms' in one) {
          nowMs += one.ms;
          const before = state.accountedMs;
          account(turnAt(state, nowMs));
          seconds += (state.workers.size * (state.accountedMs - before)) / 1000;
        } else if (one.kind === 'comes' && 'worker' in one) {
          if (known === undefined) addWorker(state, one.worker);
        } else if (one.kind === 'goes') {
          if (known !== undefined) leave(state, known);
        } else if (one.kind === 'moves' && 'job' in one) {
          if (known !== undefined) move(state, known, one.job);
        } else if (run === undefined) continue;
        else if (one.kind === 'trains') train(state, run);
        else if (one.kind === 'pauses') run.pause = run.pause === undefined ? { sinceMs: nowMs } : undefined;
        else if (one.kind === 'ends') run.record = { ...run.record, state: 'cancelled' };
        else if ('again' in one) {
          accountStep(run, { stepMs: one.ms, computeMs: one.ms / 2, reduceMs: one.ms, applyMs: 1 }, one.again);
          accountCopy(run, one.ms / 3);
        }
      }
      expect(clusterSeconds(state)).toBeCloseTo(seconds, 6);
      for (const spent of [state.cluster.jobs, ...[...runs.values()].map((run) => run.spent)]) {
        expect(named(spent) + spent.waitingSeconds).toBeCloseTo(spent.workerSeconds, 6);
        expect(Math.min(...Object.values(spent))).toBeGreaterThanOrEqual(0);
      }
    }),
  );
});
