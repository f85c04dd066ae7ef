/** Which checkpoints are kept. Pure. */
import type { JobSpec } from '../../shared/wire/jobs.js';
import type { CheckpointRecord } from './state.js';

/** More than these are never kept, whatever the spec says, because etcd holds the list in one value. */
const MOST_KEPT = 1_000;

/**
 * Of checkpoints in order of their steps: the newest `checkpointKeep` that are whole, and those at multiples of `checkpointKeepEvery`.
 * The newest whole one is always among them (I7). Damaged ones go as soon as enough newer ones are whole.
 */
export function retained(
  checkpoints: readonly CheckpointRecord[],
  { checkpointKeep, checkpointKeepEvery }: Pick<JobSpec, 'checkpointKeep' | 'checkpointKeepEvery'>,
): readonly CheckpointRecord[] {
  const whole = checkpoints.filter(({ damage }) => damage === '');
  const oldestKept = whole.at(-Math.max(1, checkpointKeep))?.committed ?? 0;
  const kept = checkpoints.filter(
    ({ committed, damage }) =>
      committed >= oldestKept || (damage === '' && checkpointKeepEvery > 0 && committed % checkpointKeepEvery === 0),
  );
  return kept.slice(-MOST_KEPT);
}

/** The one to restore: the newest that is whole. */
export function newestWhole(checkpoints: readonly CheckpointRecord[]): CheckpointRecord | undefined {
  return checkpoints.findLast(({ damage }) => damage === '');
}
