import { describe, expect, it } from 'vitest';
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import { StateAttempt, type StateSource } from '../../../worker/collective/state_attempt.js';

const MIB = 1024 * 1024;
const STATE = { bytes: 40 * MIB, sha256: 'a'.repeat(64) };
const LOWER = { at: 0, length: 20 * MIB };
const UPPER = { at: 20 * MIB, length: 20 * MIB };

function source(worker: string, ranges?: readonly ByteRange[], sha256 = STATE.sha256): StateSource {
  const facts = ranges === undefined ? undefined : { ...STATE, sha256, ranges };
  return { peer: { worker, incarnation: '1', peerAddress: 'x:1' }, facts, failure: undefined, pullsInFlight: 0 };
}

function attemptOf(...sources: readonly StateSource[]): StateAttempt<StateSource> {
  return new StateAttempt({ state: STATE, missing: [LOWER, UPPER], sources });
}

/** What each source is asked for: the first byte of each piece, in MiB. */
function assigned(attempt: StateAttempt<StateSource>): readonly string[] {
  const wanted: string[] = [];
  attempt.assign((one, { at }) => {
    one.pullsInFlight++;
    wanted.push(`${one.peer.worker} ${at / MIB}`);
  });
  return wanted;
}

describe('an attempt', () => {
  it('gives each source two pieces of what it has, by turns', () => {
    const attempt = attemptOf(source('upper', [UPPER]), source('lower', [LOWER]), source('whole', [LOWER, UPPER]));
    expect(assigned(attempt)).toEqual(['upper 20', 'lower 0', 'whole 4', 'upper 24', 'lower 8', 'whole 12']);
    expect(assigned(attempt)).toEqual([]);
  });

  it('gives nothing to a source with another state, or that has not answered', () => {
    expect(assigned(attemptOf(source('other', [LOWER, UPPER], 'b'.repeat(64)), source('silent')))).toEqual([]);
  });

  it('lacks a source for a run that only failed ones have, not for one that a silent one may have', () => {
    const failed: StateSource = { ...source('failed'), failure: 'is dead' };
    const lower = source('lower', [LOWER]);
    expect(attemptOf(lower, failed).lacksSource).toBe(true);
    expect(attemptOf(lower, failed, source('silent')).lacksSource).toBe(false);
    expect(attemptOf(lower, failed, source('other', [UPPER], 'b'.repeat(64))).lacksSource).toBe(true);
    expect(attemptOf(lower, failed, source('upper', [UPPER])).lacksSource).toBe(false);
  });

  it('knows the culprit when one source has sent everything, or when there is only one', () => {
    const [first, second] = [source('first', [LOWER, UPPER]), source('second', [LOWER, UPPER])];
    const attempt = attemptOf(first, second);
    expect(attempt.culprit).toBeUndefined();
    assigned(attempt);
    attempt.pulled(first);
    expect(attempt.culprit).toBe(first);
    attempt.pulled(second);
    expect(attempt.culprit).toBeUndefined();
    expect(attemptOf(second).culprit).toBe(second);
  });
});
