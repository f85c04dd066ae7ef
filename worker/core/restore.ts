/**
 * Healing from a checkpoint, when no worker has the state: every member of the generation reads its part of the files into its state
 * memory, offers that to the others and pulls what they have read.
 */
import type { CheckpointEvent } from '../checkpoint/checkpoints.js';
import type { DataPlaneEvent } from '../collective/data_plane.js';
import type { JobRun, Membership } from './state.js';
import { log, send, type Turn, tellCheckpoints, tellDataPlane } from './turn.js';

type Event<K extends CheckpointEvent['kind']> = Extract<CheckpointEvent, { kind: K }>;

/** Reads the own part of what the generation restores. */
export function readPart(turn: Turn, run: JobRun, { rank, roster }: Membership): void {
  read(turn, run, rank, roster.length);
}

function read(turn: Turn, run: JobRun, part: number, parts: number): void {
  const { job, generation, healing } = run;
  if (healing?.restore === undefined) return;
  const { path, manifestSha256 } = healing.restore;
  tellCheckpoints(turn, run, { kind: 'restore', job, generation, path, manifestSha256, part, parts });
}

export function stopRestore(turn: Turn, run: JobRun): void {
  if (run.healing?.restore !== undefined) tellCheckpoints(turn, run, { kind: 'stop_restore', job: run.job });
}

function isAwaited(run: JobRun, generation: number): boolean {
  return (
    run.healing?.restore !== undefined &&
    run.healing.stage === 'fetching' &&
    run.started &&
    run.generation === generation
  );
}

/** True if it was all there is: nothing needs to be pulled. The others may need it all the same. */
export function partRestored(turn: Turn, run: JobRun, event: Event<'part_restored'>): boolean {
  const { healing, membership, job } = run;
  if (healing === undefined || membership === undefined || !isAwaited(run, event.generation)) return false;
  const { bytes, sha256, own, missing } = event;
  const { committed } = healing;
  const ranks = membership.roster.flatMap((_, rank) => (rank === membership.rank ? [] : [rank]));
  tellDataPlane(turn, run, { kind: 'publish_state', job, committed, bytes, sha256, ranges: own });
  if (missing.length === 0) return true;
  tellDataPlane(turn, run, { kind: 'fetch_state', job, committed, ranks, missing, expected: { bytes, sha256 } });
  return false;
}

/** A peer sent something else than what the checkpoint has: everything is read from storage. */
export function stateCorrupt(turn: Turn, run: JobRun, event: Extract<DataPlaneEvent, { kind: 'state_corrupt' }>): void {
  if (!isAwaited(run, event.generation)) return;
  log(turn, 'warn', 'what peers sent of the checkpoint is corrupt; reading all of it', { job: run.job });
  read(turn, run, 0, 1);
}

export function restoreFailed(turn: Turn, run: JobRun, event: Event<'restore_failed'>): void {
  const { healing } = run;
  if (healing === undefined || !isAwaited(run, event.generation)) return;
  const { kind: _, ...failure } = event;
  healing.failure = { kind: 'restoreFailed', ...failure };
  send(turn, healing.failure);
}

export function restoreProgressed(run: JobRun, event: Event<'restore_progressed'>): void {
  const { healing } = run;
  if (healing === undefined || !isAwaited(run, event.generation) || event.bytes === healing.readBytes) return;
  healing.readBytes = event.bytes;
  run.restoredPieces += 1;
}
