/**
 * How the state of a job becomes a checkpoint (I6): every worker takes a snapshot after the same step; each holder writes some of the
 * shards, and those of a holder that is lost are written by the others; one of them publishes; then etcd records it. Training goes on
 * meanwhile, and a save that fails only says so.
 */
import { jobFileOf } from '../../shared/job_spec.js';
import { medianOf } from '../../shared/median.js';
import { epochOf, stepsPerEpoch } from '../../shared/plan.js';
import type { WorkerMessage } from '../../shared/wire/session.js';
import { assignedTo } from './assignment.js';
import { agreedDigest, liveMembers } from './digests.js';
import { endJob } from './ending.js';
import { planShapeOf, totalSteps } from './progress.js';
import { isGoing, release } from './release.js';
import { newestWhole, retained } from './retention.js';
import type { CheckpointRecord, JobRun, Save, SaveShard, Worker } from './state.js';
import { emit, send, sendAll, type Turn, write } from './turn.js';

type Message<K extends WorkerMessage['kind']> = Extract<WorkerMessage, { kind: K }>;

/** An asked snapshot lies so far ahead of the newest report that the request reaches everybody before the step. */
const LEAD_MS = 500;
const MOST_LEAD_FACTOR = 64;
/** Reports may be so many steps ahead of the news of a snapshot. */
const STEPS_PAST = 3;
const MINUTE_MS = 60_000;
/** After a failed save the next one by time is tried so soon. */
const RETRY_MS = MINUTE_MS;
/** Files of a checkpoint; more would only be more names. */
const MOST_SHARDS = 256;

export function folderOf(run: JobRun): string {
  return `${run.record.checkpoints}/${run.record.job}`;
}

/** Asks all members for a snapshot after a step that none of them has reached yet. */
function ask(turn: Turn, run: JobRun): void {
  const members = liveMembers(turn, run);
  const furthest = Math.max(run.record.progress.committed, ...members.map((worker) => worker.committed));
  const lead = 2 + Math.ceil((LEAD_MS / Math.max(1, medianOf(run.stepTimesMs))) * run.saving.leadFactor);
  const at = furthest + lead;
  run.saving.asked = { at, deadlineMs: turn.nowMs + turn.state.settings.askMs };
  run.saving.lastMs = turn.nowMs;
  sendAll(turn, members, { kind: 'takeSnapshot', job: run.record.job, at });
}

/** A worker has copied its state. */
export function snapshotTaken(turn: Turn, run: JobRun, worker: Worker, { committed }: { committed: number }): void {
  if (run.ending) return;
  const { saving } = run;
  if (saving.save !== undefined && saving.save.committed !== committed) {
    // The newer one counts, unless the older one is being written already.
    if (committed < saving.save.committed || saving.save.stage !== 'collecting') {
      releaseSnapshot(turn, run, worker, committed);
      return;
    }
    saving.cancels.push(...saving.save.cancels);
    saving.save = undefined;
  }
  if (run.checkpoints.some((one) => one.committed === committed && one.damage === '')) {
    releaseSnapshot(turn, run, worker, committed);
    return;
  }
  saving.save ??= begin(turn, run, committed);
  saving.lastMs = turn.nowMs;
  if (saving.asked !== undefined && committed >= saving.asked.at) saving.asked = undefined;
  saving.save.holders.set(worker.worker, worker.session);
}

function begin(turn: Turn, run: JobRun, committed: number): Save {
  turn.leading.saveCounter += 1;
  return {
    save: `${turn.leading.term}-${turn.leading.saveCounter}`,
    committed,
    progress: { ...run.record.progress, committed },
    sinceMs: turn.nowMs,
    writingSinceMs: turn.nowMs,
    writeMs: 0,
    stage: 'collecting',
    holders: new Map(),
    shards: [],
    publisher: undefined,
    cancels: run.saving.cancels.splice(0),
  };
}

export function snapshotSkipped(turn: Turn, run: JobRun, message: Message<'snapshotSkipped'>): void {
  // Every worker says so; the users hear it once.
  if (run.saving.skipped >= message.committed) return;
  run.saving.skipped = message.committed;
  emit(turn, run, { kind: 'checkpointFailed', step: message.committed, error: `skipped: ${message.reason}` });
}

function releaseSnapshot(turn: Turn, run: JobRun, worker: Worker, committed: number): void {
  send(turn, worker, {
    kind: 'releaseSnapshot',
    job: run.record.job,
    save: '',
    committed,
    folder: folderOf(run),
    abandoned: false,
  });
}

/** Those who have the snapshot and can be told to write. */
function holdersOf(turn: Turn, run: JobRun, save: Save): readonly Worker[] {
  return [...save.holders].flatMap(([name, session]) => {
    const worker = turn.state.workers.get(name);
    return worker?.session === session && worker.job === run.record.job ? [worker] : [];
  });
}

/** Called after every event: does the next thing that the save needs. */
export function advanceSaving(turn: Turn, run: JobRun): void {
  if (run.record.state !== 'running' || run.ending) return;
  const { save } = run.saving;
  if (save === undefined) {
    askIfDue(turn, run);
    return;
  }
  if (turn.nowMs - save.sinceMs > turn.state.settings.saveMs) {
    failSave(turn, run, `it was not done within ${Math.round(turn.state.settings.saveMs / 1000)} s`);
    return;
  }
  if (save.stage === 'collecting') collect(turn, run, save);
  if (save.stage === 'writing') assignShards(turn, run, save);
  if (save.stage === 'publishing') assignPublisher(turn, run, save);
}

function askIfDue(turn: Turn, run: JobRun): void {
  const { saving, record } = run;
  const { asked } = saving;
  if (asked !== undefined) {
    const passed = asked.at > 0 && record.progress.committed > asked.at + STEPS_PAST;
    if (turn.nowMs < asked.deadlineMs && !passed) return;
    saving.asked = undefined;
    saving.leadFactor = Math.min(MOST_LEAD_FACTOR, saving.leadFactor * 2);
    const why = passed ? 'the workers had passed the step when they were asked' : 'no worker reached the step in time';
    failed(turn, run, asked.at, `no snapshot was taken: ${why}`, saving.cancels.splice(0));
    return;
  }
  // As whoever asks for it now is told: it may be long until there is something to save.
  if (run.formation.kind === 'gathering')
    refuseCancels(turn, saving.cancels.splice(0), 'the job is not training any more');
  if (run.formation.kind !== 'started' || run.formation.restores !== undefined) return;
  const periodMs = record.spec.checkpointMinutes * MINUTE_MS;
  const due = saving.cancels.length > 0 || (periodMs > 0 && turn.nowMs - saving.lastMs >= periodMs);
  if (due && record.progress.committed < totalSteps(run)) ask(turn, run);
}

/** Members can be apart by one step, so the last snapshot comes a step after the first at most. */
function collect(turn: Turn, run: JobRun, save: Save): void {
  const holders = holdersOf(turn, run, save);
  const waitMs = Math.max(turn.state.settings.collectMs, 3 * medianOf(run.stepTimesMs));
  const have = new Set(holders);
  const awaited = liveMembers(turn, run).some((worker) => !have.has(worker));
  if (awaited && turn.nowMs - save.sinceMs < waitMs) return;
  if (holders.length === 0) {
    failSave(turn, run, 'every worker that had the snapshot is gone');
    return;
  }
  // In a loose job the copies may differ in their last bits, and a checkpoint is of one state.
  const count = run.record.spec.determinism === 'strict' ? Math.min(holders.length, MOST_SHARDS) : 1;
  save.shards = Array.from({ length: count }, (): SaveShard => ({ writer: undefined, facts: undefined }));
  save.stage = 'writing';
  save.writingSinceMs = turn.nowMs;
}

/** Every shard that is not written has a writer that is there; the share of a lost one goes to whoever has least to write. */
function assignShards(turn: Turn, run: JobRun, save: Save): void {
  const holders = holdersOf(turn, run, save);
  const names = new Set(holders.map(({ worker }) => worker));
  const open = save.shards.filter(({ facts }) => facts === undefined);
  if (open.length === 0) {
    save.stage = 'publishing';
    save.writeMs = turn.nowMs - save.writingSinceMs;
    return;
  }
  const loads = new Map<string, number>();
  for (const { writer } of open) if (writer !== undefined) loads.set(writer, (loads.get(writer) ?? 0) + 1);
  const load = ({ worker }: Worker) => loads.get(worker) ?? 0;
  save.shards.forEach((shard, index) => {
    if (shard.facts !== undefined || (shard.writer !== undefined && names.has(shard.writer))) return;
    const writer = holders.reduce<Worker | undefined>(
      (least, worker) => (least === undefined || load(worker) < load(least) ? worker : least),
      undefined,
    );
    if (writer === undefined) return;
    shard.writer = writer.worker;
    loads.set(writer.worker, load(writer) + 1);
    send(turn, writer, {
      kind: 'writeShard',
      job: run.record.job,
      save: save.save,
      committed: save.committed,
      folder: folderOf(run),
      shard: index,
      shards: save.shards.length,
    });
  });
  if (holders.length === 0) failSave(turn, run, 'every worker that had the snapshot is gone');
}

function assignPublisher(turn: Turn, run: JobRun, save: Save): void {
  const holders = holdersOf(turn, run, save);
  if (holders.some(({ worker }) => worker === save.publisher)) return;
  const [publisher] = holders;
  if (publisher === undefined) {
    failSave(turn, run, 'every worker that had the snapshot is gone');
    return;
  }
  const description = descriptionOf(turn, run, save);
  if (description === undefined) return;
  save.publisher = publisher.worker;
  send(turn, publisher, {
    kind: 'publishCheckpoint',
    job: run.record.job,
    save: save.save,
    committed: save.committed,
    folder: folderOf(run),
    shards: save.shards.flatMap(({ facts }) => facts ?? []),
    description,
  });
}

function descriptionOf(turn: Turn, run: JobRun, save: Save) {
  const { spec, facts, job } = run.record;
  if (facts === null) return undefined;
  const shape = planShapeOf(spec, facts);
  const { progress } = save;
  return {
    job,
    name: spec.name,
    committed: save.committed,
    epoch: epochOf(shape, save.committed),
    stepOfEpoch: save.committed % stepsPerEpoch(shape),
    specJson: JSON.stringify(jobFileOf(spec)),
    datasetDigest: facts.datasetDigest,
    datasetLength: facts.datasetLength,
    torch: facts.torch,
    fingerprint: facts.fingerprint,
    loss: progress.loss ?? undefined,
    samplesLost: progress.samplesLost,
    samplesRepeated: progress.samplesRepeated,
    createdMs: turn.wallMs,
  };
}

export function shardWritten(run: JobRun, { save: id, shard: facts }: Message<'shardWritten'>): void {
  const { save } = run.saving;
  const shard = save?.save === id ? save.shards[facts.shard] : undefined;
  if (shard !== undefined) shard.facts ??= facts;
}

/** What one fails at that others do by now, or have done, is no failure of the save: it may meet a folder that has its final name already. */
export function saveFailed(turn: Turn, run: JobRun, { worker }: Worker, message: Message<'saveFailed'>): void {
  const { save } = run.saving;
  if (save?.save === message.save && isNeeded(save, worker)) failSave(turn, run, `${worker}: ${message.reason}`);
}

function isNeeded({ stage, shards, publisher }: Save, worker: string): boolean {
  if (stage === 'writing') return shards.some(({ writer, facts }) => writer === worker && facts === undefined);
  return stage === 'publishing' && publisher === worker;
}

/** It is whole and visible: what is left is to record it. */
export function published(turn: Turn, run: JobRun, message: Message<'checkpointPublished'>): void {
  const { save } = run.saving;
  if (save?.save !== message.save || save.stage !== 'publishing') return;
  const { path, manifestSha256, stateSha256, bytes } = message;
  const agreed = run.record.spec.determinism === 'strict' ? agreedDigest(turn, run, save.committed) : undefined;
  if (agreed !== undefined && agreed.state !== stateSha256) {
    run.saving.removing.add(path);
    failSave(turn, run, 'a copy of the state has another digest than the state that all workers have agreed on');
    return;
  }
  save.stage = 'recording';
  const record: CheckpointRecord = {
    job: run.record.job,
    committed: save.committed,
    path,
    manifestSha256,
    stateSha256,
    bytes,
    timeMs: turn.wallMs,
    progress: save.progress,
    damage: '',
  };
  const others = run.checkpoints.filter((one) => one.path !== path);
  const all = [...others, record].sort((left, right) => left.committed - right.committed);
  const kept = retained(all, run.record.spec);
  // It may be there again after it was to be removed and whoever should do that was lost.
  run.saving.removing.delete(path);
  for (const one of all) if (!kept.includes(one) && one.job === run.record.job) run.saving.removing.add(one.path);
  run.checkpoints = kept;
  write(turn, { kind: 'checkpoints', job: run.record.job, committed: save.committed });
}

/** etcd has it: it is the one to come back to, and what it replaces may go. */
export function checkpointStored(turn: Turn, run: JobRun, committed: number): void {
  const record = run.checkpoints.find((one) => one.committed === committed && one.damage === '');
  const { save } = run.saving;
  if (record === undefined || save?.committed !== committed) return;
  const { path, bytes } = record;
  const { writeMs } = save;
  const saveMs = turn.nowMs - save.sinceMs;
  emit(turn, run, { kind: 'checkpointCommitted', step: committed, path, bytes, saveMs, writeMs });
  const remover = turn.state.workers.get(save.publisher ?? '') ?? holdersOf(turn, run, save)[0];
  if (remover !== undefined) {
    for (const old of run.saving.removing) {
      send(turn, remover, { kind: 'removeCheckpoint', job: run.record.job, path: old });
    }
  }
  run.saving.leadFactor = 1;
  endSave(turn, run, false);
  if (save.cancels.length > 0) {
    run.cancelRequests.push(...save.cancels);
    endJob(turn, run, 'cancelled', `cancelled by a user after the checkpoint of step ${committed}`, '');
  }
}

export function checkpointRemoved(run: JobRun, { path, error }: Message<'checkpointRemoved'>): void {
  if (error === '') run.saving.removing.delete(path);
}

function failSave(turn: Turn, run: JobRun, reason: string): void {
  const { save } = run.saving;
  endSave(turn, run, true);
  if (save !== undefined) failed(turn, run, save.committed, reason, save.cancels);
}

/** When the newest save was, as far as a new leader can tell. Wall clocks are good enough for that: it only decides when to save again. */
export function savedMs(turn: Pick<Turn, 'nowMs' | 'wallMs'>, run: JobRun): number {
  const { spec, submittedMs } = run.record;
  const sinceMs = turn.wallMs - (newestWhole(run.checkpoints)?.timeMs ?? submittedMs);
  return turn.nowMs - Math.min(Math.max(0, sinceMs), spec.checkpointMinutes * MINUTE_MS);
}

/** Says so; training goes on. */
function failed(turn: Turn, run: JobRun, step: number, error: string, cancels: readonly string[]): void {
  emit(turn, run, { kind: 'checkpointFailed', step, error });
  const periodMs = run.record.spec.checkpointMinutes * MINUTE_MS;
  run.saving.lastMs = turn.nowMs - Math.max(0, periodMs - RETRY_MS);
  refuseCancels(turn, cancels, error);
  keepWithdrawn(turn, run);
  letLeaversGo(turn, run);
}

function refuseCancels(turn: Turn, cancels: readonly string[], error: string): void {
  for (const request of cancels) {
    const message = `the checkpoint failed, so the job was not cancelled: ${error}`;
    turn.commands.push({ kind: 'reply_error', request, code: 'save_failed', message });
  }
}

/** The snapshots are not needed any more. */
function endSave(turn: Turn, run: JobRun, abandoned: boolean): void {
  const { save } = run.saving;
  run.saving.save = undefined;
  if (save === undefined) return;
  sendAll(turn, holdersOf(turn, run, save), {
    kind: 'releaseSnapshot',
    job: run.record.job,
    save: save.save,
    committed: save.committed,
    folder: folderOf(run),
    abandoned,
  });
  if (abandoned) {
    run.saving.leaverWaits = false;
    return;
  }
  const ends = save.cancels.length > 0;
  if (ends || !savesFurther(turn, run, save.committed)) letLeaversGo(turn, run);
}

/**
 * A save was being written when the last worker that has the state was told to go, and that had made more steps by then: they are saved, too.
 * Once: alone in its generation it may compute on meanwhile, and there would be no end.
 */
function savesFurther(turn: Turn, run: JobRun, saved: number): boolean {
  if (!run.saving.leaverWaits) return false;
  run.saving.leaverWaits = false;
  const ahead = assignedTo(turn.state, run.record.job).filter((worker) => worker.committed > saved && !worker.healing);
  if (ahead.some((worker) => !isGoing(worker))) return false;
  const furthest = ahead
    .filter((worker) => !worker.unloading)
    .reduce<Worker | undefined>((most, one) => (one.committed > (most?.committed ?? 0) ? one : most), undefined);
  return furthest !== undefined && saveBeforeLeaving(turn, run, furthest);
}

/** Workers that leave are saving a state beyond step `committed`, or are about to: it can be restored soon. */
export function savesBeyond(turn: Turn, run: JobRun, committed: number): boolean {
  const { save, asked } = run.saving;
  if (asked?.at === 0 && assignedTo(turn.state, run.record.job).some(isGoing)) return true;
  return save !== undefined && save.committed > committed && holdersOf(turn, run, save).length > 0;
}

/** Everything is restored: nobody has what was to be saved. */
export function loseSaving(turn: Turn, run: JobRun): void {
  refuseCancels(turn, abandonSaving(turn, run), 'no worker has the state any more');
}

/** The job ends, or everything is restored: what is under way is of no use any more. Returns the cancels that waited for it. */
export function abandonSaving(turn: Turn, run: JobRun): readonly string[] {
  const { saving } = run;
  const cancels = [...(saving.save?.cancels ?? []), ...saving.cancels.splice(0)];
  saving.asked = undefined;
  endSave(turn, run, true);
  return cancels;
}

/** Workers that stayed only because nobody else had the state. */
function letLeaversGo(turn: Turn, run: JobRun): void {
  for (const worker of assignedTo(turn.state, run.record.job)) {
    if (isGoing(worker) && !worker.unloading) release(turn, worker, worker.withdrawn ?? 'it was told to stop');
  }
}

/** What could not be saved is not taken away from the job, unless the worker itself has to go. */
function keepWithdrawn(turn: Turn, run: JobRun): void {
  for (const worker of assignedTo(turn.state, run.record.job)) if (!worker.unloading) worker.withdrawn = undefined;
  run.sentAway = undefined;
  // One that is stuck keeps its workers for a while, before that is tried again.
  if (run.formation.kind === 'gathering') run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
}

/** The last worker that has the state is told to stop: the state is saved before it goes. False if there is nothing to save. */
export function saveBeforeLeaving(turn: Turn, run: JobRun, worker: Worker): boolean {
  const { spec, progress } = run.record;
  const wanted = spec.checkpointEvery > 0 || spec.checkpointMinutes > 0;
  if (!wanted || run.ending || worker.facts === undefined) return false;
  if (progress.committed === 0 || worker.committed === 0 || worker.healing) return false;
  if (run.saving.save !== undefined && run.saving.save.stage !== 'collecting') {
    run.saving.leaverWaits = true;
    return true;
  }
  run.saving.asked = { at: 0, deadlineMs: turn.nowMs + turn.state.settings.askMs };
  send(turn, worker, { kind: 'takeSnapshot', job: run.record.job, at: 0 });
  return true;
}

/** A worker begins a session: it may hold a snapshot of which a leader that is gone knew. */
export function takeBackSnapshot(turn: Turn, run: JobRun, worker: Worker): void {
  const snapshot = worker.holding?.snapshot;
  if (snapshot === undefined) return;
  const { save } = run.saving;
  // It may not have heard what it was told in the old session.
  if (save?.committed === snapshot.committed) {
    for (const shard of save.shards) if (shard.writer === worker.worker) shard.writer = undefined;
    if (save.publisher === worker.worker) save.publisher = undefined;
  }
  snapshotTaken(turn, run, worker, snapshot);
}
