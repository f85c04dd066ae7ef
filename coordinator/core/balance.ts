/** Blocks follow the measured speed of the workers, where the difference is large enough to matter. Never the result. */
import { blocksFor } from '../../shared/tree.js';
import type { GenerationRecord, JobRun } from './state.js';
import type { Turn } from './turn.js';

/** Below this ratio between the slowest and the fastest all blocks are equal: noise must not move work about. */
const UNEVEN_RATIO = 2;
/** A new generation must make steps at least this much shorter to be worth its pause. */
const WORTHWHILE_RATIO = 1.5;
const SETTLE_MS = 10_000;

export interface Measured {
  /** Median engine time a microbatch, milliseconds; 0 when unknown. */
  readonly microbatchMs: number;
}

/** Relative shares of the microbatches, one a worker. */
export function sharesFor(workers: readonly Measured[]): readonly number[] {
  const times = workers.map((worker) => worker.microbatchMs);
  const slowest = Math.max(...times);
  const fastest = Math.min(...times);
  if (fastest <= 0 || slowest / fastest < UNEVEN_RATIO) return times.map(() => 1);
  return times.map((time) => 1 / time);
}

function stepMs(blocks: readonly number[], workers: readonly Measured[]): number {
  return Math.max(...blocks.map((length, index) => length * (workers[index]?.microbatchMs ?? 0)));
}

/** Why the running generation's blocks should change, if they should. */
export function imbalance(turn: Turn, run: JobRun, record: GenerationRecord, sinceMs: number): string | undefined {
  if (turn.nowMs - Math.max(sinceMs, run.balancedMs) < SETTLE_MS) return undefined;
  if (run.lastCommitMs <= sinceMs) return undefined; // Other blocks do not help an exchange that has come to rest.
  const workers = record.roster.flatMap((member) => turn.state.workers.get(member.worker) ?? []);
  if (workers.length < 2 || workers.length < record.roster.length) return undefined;
  const now = record.roster.map((member) => member.length);
  const better = blocksFor(run.record.spec.microbatches, sharesFor(workers)).map((block) => block.length);
  if (stepMs(now, workers) < WORTHWHILE_RATIO * stepMs(better, workers)) return undefined;
  const slowest = workers.reduce((worst, worker) => (worker.microbatchMs > worst.microbatchMs ? worker : worst));
  return `${slowest.worker} is slow: blocks of ${better.join(', ')}`;
}
