/** A worker's part in a save: it copies its state after a step, and writes of the copy what it is told to. */
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { CheckpointEvent } from '../checkpoint/checkpoints.js';
import type { EngineEvent } from './engine_protocol.js';
import type { JobRun, Snapshot } from './state.js';
import { send, type Turn, tellCheckpoints, tellEngine } from './turn.js';

type Message<K extends CoordinatorMessage['kind']> = Extract<CoordinatorMessage, { kind: K }>;
type Event<K extends CheckpointEvent['kind']> = Extract<CheckpointEvent, { kind: K }>;

/** Called after each commit but the last one of the job. */
export function snapshotIfDue(turn: Turn, run: JobRun): void {
  const { checkpointEvery } = run.spec;
  const asked = run.snapshotAt === run.committed;
  if (run.snapshotAt !== undefined && run.snapshotAt <= run.committed) run.snapshotAt = undefined;
  if (asked || (checkpointEvery > 0 && run.committed % checkpointEvery === 0)) take(turn, run);
}

/** The copy is made between two steps; one that nobody saves yet is replaced, one that is being saved is not. */
function take(turn: Turn, run: JobRun): void {
  const { snapshot, committed } = run;
  if (snapshot?.orderedBy !== undefined || (snapshot !== undefined && snapshot.bytes === undefined)) {
    const reason = `the state after step ${snapshot.committed} is still being saved`;
    send(turn, { kind: 'snapshotSkipped', job: run.job, committed, reason });
    return;
  }
  run.snapshot = { committed, bytes: undefined, orderedBy: undefined };
  tellEngine(turn, run, { command: 'snapshot' });
}

export function takeSnapshot(turn: Turn, run: JobRun, { at }: Message<'takeSnapshot'>): void {
  if (at === 0) take(turn, run);
  else if (at > run.committed) run.snapshotAt = at;
}

/** The engine has made the copy of the state after `committed` steps. */
export function snapshotTaken(
  turn: Turn,
  run: JobRun,
  committed: number,
  { bytes, copy_ms }: Extract<EngineEvent, { event: 'snapshot_taken' }>,
): void {
  if (run.snapshot?.committed !== committed) return;
  run.snapshot.bytes = bytes;
  send(turn, { kind: 'snapshotTaken', job: run.job, snapshot: { committed, bytes }, copyMs: copy_ms });
}

/** The length of the copy that the order is for; from here on the copy stays as it is. */
function ordered(turn: Turn, run: JobRun, { save, committed, folder }: Message<'writeShard' | 'publishCheckpoint'>) {
  const { snapshot } = run;
  if (snapshot?.committed === committed && snapshot.bytes !== undefined) {
    if (snapshot.orderedBy !== save) abandonOrders(turn, run, snapshot, folder);
    snapshot.orderedBy = save;
    return snapshot.bytes;
  }
  send(turn, { kind: 'saveFailed', job: run.job, save, reason: `it has no snapshot of step ${committed} any more` });
  return undefined;
}

export function writeShard(turn: Turn, run: JobRun, message: Message<'writeShard'>): void {
  const bytes = ordered(turn, run, message);
  if (bytes === undefined) return;
  const { job, save, committed, folder, shard, shards } = message;
  tellCheckpoints(turn, run, { kind: 'write_shard', job, save, committed, folder, shard, shards, bytes });
}

export function publish(turn: Turn, run: JobRun, message: Message<'publishCheckpoint'>): void {
  const bytes = ordered(turn, run, message);
  if (bytes === undefined) return;
  const { job, save, committed, folder, shards, description } = message;
  tellCheckpoints(turn, run, { kind: 'publish', job, save, committed, folder, shards, description, bytes });
}

export function releaseSnapshot(turn: Turn, run: JobRun, message: Message<'releaseSnapshot'>): void {
  const { job, save, committed, folder, abandoned } = message;
  if (run.snapshot?.committed === committed) {
    if (run.snapshot.orderedBy !== save) abandonOrders(turn, run, run.snapshot, folder);
    run.snapshot = undefined;
  }
  if (abandoned) tellCheckpoints(turn, run, { kind: 'abandon_save', job, save, committed, folder });
}

/**
 * A save that the coordinator has given up, while this worker was not there to hear of it, must not read the copy any longer: it may be
 * replaced soon, and what is made of it then would be no state at all.
 */
function abandonOrders(turn: Turn, run: JobRun, { orderedBy, committed }: Snapshot, folder: string): void {
  if (orderedBy === undefined) return;
  tellCheckpoints(turn, run, { kind: 'abandon_save', job: run.job, save: orderedBy, committed, folder });
}

export function removeCheckpoint(turn: Turn, run: JobRun, { job, path }: Message<'removeCheckpoint'>): void {
  tellCheckpoints(turn, run, { kind: 'remove', job, path });
}

/** What the checkpoint thread has done is told as it is: the coordinator knows which save is the one that counts. */
export function saveProgressed(
  turn: Turn,
  event: Event<'shard_written' | 'published' | 'save_failed' | 'removed'>,
): void {
  switch (event.kind) {
    case 'shard_written':
      send(turn, { kind: 'shardWritten', job: event.job, save: event.save, shard: event.facts });
      break;
    case 'published': {
      const { kind: _, ...published } = event;
      send(turn, { kind: 'checkpointPublished', ...published });
      break;
    }
    case 'save_failed':
      send(turn, { kind: 'saveFailed', job: event.job, save: event.save, reason: event.reason });
      break;
    case 'removed':
      send(turn, { kind: 'checkpointRemoved', job: event.job, path: event.path, error: event.error ?? '' });
      break;
  }
}
