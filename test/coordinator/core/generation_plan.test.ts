import { describe, expect, it } from 'vitest';
import { type Candidate, planGeneration } from '../../../coordinator/core/generation_plan.js';
import type { CheckpointRecord, GenerationRecord } from '../../../coordinator/core/state.js';
import { knownWorker } from './known_worker.js';

const MICROBATCHES = 6;

function candidate(name: string, committed: number, hasState = true): Candidate {
  const holding = { job: 'j1', generation: 3, committed, hasState, engineStart: 1, started: true, attempt: 1 };
  const answer = { kind: 'prepared', job: 'j1', generation: 4, holding, nodes: [], hasReduced: false } as const;
  return { worker: knownWorker(name, 'j1'), answer };
}

function checkpoint(committed: number): CheckpointRecord {
  return {
    job: 'j1',
    committed,
    path: `/c/j1/step-${committed}`,
    manifestSha256: 'm',
    stateSha256: 's',
    bytes: 1,
    timeMs: 0,
    progress: { committed, loss: null, samplesLost: 0, samplesRepeated: 0 },
    damage: '',
  };
}

function plan(candidates: readonly Candidate[], saved?: CheckpointRecord, last?: GenerationRecord) {
  return planGeneration({
    job: 'j1',
    generation: 4,
    term: 1,
    microbatches: MICROBATCHES,
    reason: 'a test',
    strict: true,
    candidates,
    last,
    checkpoint: saved,
    attempts: new Map([['w1', 2]]),
  });
}

describe('a generation', () => {
  it('restores the checkpoint when all engines are new, and every member heals and computes its block', () => {
    const made = plan([candidate('w1', 0), candidate('w2', 0), candidate('w3', 0)], checkpoint(10));
    expect(made?.record).toMatchObject({ committed: 10 });
    expect(made?.record.roster.map(({ heals }) => heals)).toEqual([true, true, true]);
    expect(made?.start).toMatchObject({ restore: { path: '/c/j1/step-10' }, healFrom: [], reducedAt: [] });
    const leaves = made?.start.inFlight.flatMap(({ node }) =>
      Array.from({ length: node.length }, (_, i) => node.lo + i),
    );
    expect(leaves).toEqual([0, 1, 2, 3, 4, 5]);
    expect(new Set(made?.start.inFlight.map(({ rank }) => rank))).toEqual(new Set([0, 1, 2]));
  });

  it('takes the state from a worker that is as far as the checkpoint, and reads nothing from storage', () => {
    const made = plan([candidate('w1', 0), candidate('w2', 10)], checkpoint(10));
    expect(made?.restores).toBeUndefined();
    expect(made?.start).toMatchObject({ committed: 10, restore: undefined, healFrom: [1] });
  });

  it('does not take the state of a worker that has come back from before the checkpoint', () => {
    const made = plan([candidate('w1', 0), candidate('w2', 9)], checkpoint(10));
    expect(made?.restores?.committed).toBe(10);
    expect(made?.record.roster.every(({ heals }) => heals)).toBe(true);
  });

  it('restores when those who were healing have lost the one that they healed from', () => {
    const made = plan([candidate('w1', 12, false), candidate('w2', 12, false)], checkpoint(10));
    expect(made?.record.committed).toBe(10);
  });

  it('is not made when nobody has a state and nothing was saved', () => {
    expect(plan([candidate('w1', 12, false)])).toBeUndefined();
  });
});
