/**
 * Watches over saves and restores for the oracle: what etcd lists is there, whole and of the job's history (I6), the last whole checkpoint
 * is never given up (I7), and storage is read only where no worker has the state.
 */
import type { CoordinatorCommand } from '../../coordinator/core/command.js';
import type { CoordinatorEvent } from '../../coordinator/core/event.js';
import {
  type CheckpointRecord,
  type CheckpointsRecord,
  type GenerationRecord,
  isTerminal,
  type JobRecord,
  type JobRun,
  type Save,
} from '../../coordinator/core/state.js';
import type { ShardFacts } from '../../shared/checkpoint/manifest.js';
import type { CoordinatorMessage, Holding } from '../../shared/wire/session.js';
import { type SnapshotMemory, type StateContent, stateDigest } from './checkpoint/image.js';
import type { SaveCommand } from './checkpoint/saves.js';
import type { Folder } from './checkpoint/storage.js';
import type { CoordinatorHost } from './coordinator_host.js';
import type { JobHistory } from './lineage.js';
import type { WorkerHost } from './worker_host.js';
import { Violation, type World } from './world.js';

type Sent<K extends CoordinatorMessage['kind']> = Extract<CoordinatorMessage, { readonly kind: K }>;

export interface SavingBefore {
  /** What the members of the generation that the message is of are restoring. */
  readonly restores: CheckpointRecord | undefined;
  /** Generations whose members are restoring, and no news of a step that they have made. */
  readonly restoring: readonly GenerationRecord[];
  /** What is being saved, by job. */
  readonly saving: ReadonlyMap<string, Save>;
}

/** What a checkpoint holds whose shards are of several states, or of none. */
const MIXTURE: StateContent = { committed: -1, weights: Number.NaN };

const NOTHING: SavingBefore = { restores: undefined, restoring: [], saving: new Map() };

/** One checkpoint: another of the same step may take its place. */
function keyOf({ path, manifestSha256 }: { readonly path: string; readonly manifestSha256: string }): string {
  return `${path} ${manifestSha256}`;
}

/** Two leaders may try to make a generation of the same number. */
function attemptOf({ job, generation, term }: Pick<GenerationRecord, 'job' | 'generation' | 'term'>): string {
  return `${job} ${generation} ${term}`;
}

function isStepOf({ job, generation }: GenerationRecord, event: CoordinatorEvent): boolean {
  if (event.kind !== 'session_message' || event.message.kind !== 'stepCommitted') return false;
  return event.message.job === job && event.message.generation === generation;
}

function nameOf(save: string, { file, sha256 }: ShardFacts): string {
  return `${save} ${file} ${sha256}`;
}

export class CheckpointOracle {
  /** Shards that were written, by save, file and digest. */
  readonly #written = new Set<string>();
  /** What was published, by path and manifest. */
  readonly #contents = new Map<string, StateContent>();
  /** What bit rot has struck, by path and manifest. */
  readonly #spoilt = new Set<string>();
  /** What candidates have said of themselves, by job, generation and term, and by worker. */
  readonly #answers = new Map<string, Map<string, Holding>>();
  /** What the generations are to restore, by job, generation and term. */
  readonly #planned = new Map<string, CheckpointRecord | undefined>();
  /** What a leader has heard to be damaged: its term, path and manifest. */
  readonly #heard = new Set<string>();
  /** Steps from which users wanted jobs to be resumed, by operation. */
  readonly #resumes = new Map<string, number | undefined>();
  /** Checkpoints that etcd got, and generations that restored one. */
  saved = 0;
  restored = 0;

  constructor(
    private readonly world: World,
    private readonly historyOf: (job: string) => JobHistory | undefined,
  ) {}

  #broken(invariant: string, process: string, detail: string): never {
    throw new Violation(invariant, `${process}: ${detail}`);
  }

  #listOf(job: string): readonly CheckpointRecord[] {
    return this.world.etcd.checkpoints.get(job)?.checkpoints ?? [];
  }

  /** It is in the storage as it was recorded. */
  #isWhole(record: CheckpointRecord): boolean {
    const folder = this.world.storage.at(record.path);
    return folder?.manifest?.sha256 === record.manifestSha256 && folder.problem === undefined;
  }

  // What the storage does.

  shardWritten(save: string, facts: ShardFacts): void {
    this.#written.add(nameOf(save, facts));
  }

  /** A draft has got the name of a checkpoint. */
  named(path: string, { manifest, image }: Folder): void {
    if (manifest === undefined) this.#broken('I6', 'storage', `${path} is published without a manifest`);
    this.#contents.set(keyOf({ path, manifestSha256: manifest.sha256 }), image.whole ?? MIXTURE);
  }

  /** A fault has struck it. */
  spoilt(path: string, { manifest }: Folder): void {
    if (manifest !== undefined) this.#spoilt.add(keyOf({ path, manifestSha256: manifest.sha256 }));
  }

  /** It is not there any more under its name. */
  vanished(path: string, { manifest }: Folder, why: string): void {
    if (manifest === undefined) return;
    const key = keyOf({ path, manifestSha256: manifest.sha256 });
    if (this.#spoilt.has(key) && why !== 'removed') return;
    for (const { job, checkpoints } of this.world.etcd.checkpoints.values()) {
      if (checkpoints.some((one) => keyOf(one) === key)) {
        this.#broken('I7', 'storage', `${path} is ${why}, and etcd lists it for ${job}`);
      }
    }
  }

  /** An engine begins to copy its state over the copy before. */
  snapshotBegins(host: WorkerHost, memory: SnapshotMemory): void {
    for (const command of host.checkpoints.saves.readersOf(memory)) {
      if (!this.#isAwaited(host.name, command)) continue;
      const { save, committed } = command;
      this.#broken('I11', host.name, `overwrites the copy of step ${committed} of which save ${save} is being written`);
    }
  }

  /** The leader waits for what the worker does there. */
  #isAwaited(worker: string, command: SaveCommand): boolean {
    const { etcd, coordinators } = this.world;
    const { state } = coordinators.get(etcd.leader?.name ?? '') ?? {};
    if (state?.leading === undefined || state.leading.term !== etcd.leader?.createRevision) return false;
    const save = state.jobs.get(command.job)?.saving.save;
    if (save?.save !== command.save || save.holders.get(worker) !== state.workers.get(worker)?.session) return false;
    if (command.kind === 'publish') return save.stage === 'publishing' && save.publisher === worker;
    const shard = save.shards[command.shard];
    return shard?.writer === worker && shard.facts === undefined;
  }

  // What etcd is told.

  checkpointsStored({ job, checkpoints }: CheckpointsRecord): void {
    const where = `etcd ${job}`;
    const before = this.#listOf(job);
    const known = new Map(before.map((one) => [keyOf(one), one]));
    for (const one of checkpoints) {
      const old = known.get(keyOf(one));
      if (old === undefined) this.#checkNew(job, one, where);
      else if (old.damage === '' && one.damage !== '') this.#checkDamaged(one, where);
    }
    this.#checkKept(before, checkpoints, where);
    this.#checkLength(job, checkpoints, where);
    this.world.onMoment('checkpoint_stored', this.world.etcd.leader?.name ?? '');
  }

  /** I6: it is there, whole, and a state that the job has had after so many steps. */
  #checkNew(job: string, one: CheckpointRecord, where: string): void {
    const { committed, path } = one;
    const content = this.#contents.get(keyOf(one));
    const name = `the checkpoint of step ${committed}`;
    if (content === undefined) this.#broken('I6', where, `${name} is recorded, and ${path} was never published`);
    if (!this.#spoilt.has(keyOf(one)) && !this.#isWhole(one)) {
      const problem = this.world.storage.at(path)?.problem ?? 'it is not there';
      this.#broken('I6', where, `${name} is recorded, and ${problem}`);
    }
    if (committed === 0) this.#broken('I6', where, 'the state after no steps is saved');
    if (content.committed !== committed || one.progress.committed !== committed) {
      this.#broken('I6', where, `${name} is recorded, and it is that of step ${content.committed}`);
    }
    const history = this.historyOf(job);
    const { reference, spec } = history?.plan ?? {};
    const right = spec?.determinism === 'strict' ? content.weights === reference?.weights(committed) : true;
    if (history?.having(content) === undefined || !right || one.stateSha256 !== stateDigest(content)) {
      this.#broken('I6', where, `${name} holds weights that the job never had`);
    }
    if (one.job === job) this.saved += 1;
  }

  #checkDamaged(one: CheckpointRecord, where: string): void {
    if (this.#spoilt.has(keyOf(one)) || !this.#isWhole(one)) return;
    this.#broken('I7', where, `the checkpoint of step ${one.committed} is whole and marked as damaged: ${one.damage}`);
  }

  /** I7: the newest whole one stays, or a newer one that is whole is in its place. */
  #checkKept(before: readonly CheckpointRecord[], after: readonly CheckpointRecord[], where: string): void {
    const isGood = (one: CheckpointRecord) => one.damage === '' && this.#isWhole(one);
    const newest = before.findLast(isGood);
    if (newest === undefined || after.some((one) => one.committed >= newest.committed && one.damage === '')) return;
    this.#broken('I7', where, `the newest whole checkpoint, of step ${newest.committed}, is dropped`);
  }

  #checkLength(job: string, checkpoints: readonly CheckpointRecord[], where: string): void {
    const { spec } = this.historyOf(job)?.plan ?? {};
    if (spec === undefined) this.#broken('I9', where, 'checkpoints of a job that nobody submitted');
    const every = spec.checkpointKeepEvery;
    const kept = checkpoints.filter((one) => one.damage === '' && (every === 0 || one.committed % every !== 0));
    if (kept.length > spec.checkpointKeep) {
      this.#broken('I11', where, `${kept.length} checkpoints are kept where ${spec.checkpointKeep} are wanted`);
    }
    const sorted = checkpoints.every((one, i) => i === 0 || one.committed >= (checkpoints[i - 1]?.committed ?? 0));
    if (!sorted) this.#broken('I7', where, 'checkpoints are not in the order of their steps');
  }

  resumeWanted(operationId: string, from: number | undefined): void {
    this.#resumes.set(operationId, from);
  }

  /** A job that continues another one begins at the newest of its checkpoints, or where the user said. */
  resumed(record: JobRecord): void {
    const where = `etcd ${record.job}`;
    const parent = this.world.etcd.jobs.get(record.resumedFrom);
    if (parent === undefined || !isTerminal(parent.state)) {
      this.#broken('I10', where, `continues ${record.resumedFrom}, which is ${parent?.state ?? 'not in etcd'}`);
    }
    const from = this.#resumes.get(record.operationId);
    const { committed } = record.progress;
    const newest = this.#listOf(parent.job).findLast((one) => one.damage === '' && this.#isWhole(one))?.committed ?? 0;
    if (from === undefined ? committed < newest : committed !== from) {
      this.#broken('I2', where, `begins at step ${committed} where it should at ${from ?? newest}`);
    }
  }

  /** Whether there is a reason to end like this: it was restored too often, or what it continues is damaged. */
  mayFailUnsaved({ job, reason, restores, resumedFrom, spec }: JobRecord): boolean {
    if (/was restored \d+ times/.test(reason)) return restores.count >= spec.maxRestores;
    if (!/no checkpoint of job/.test(reason) || resumedFrom === '') return false;
    return !this.#listOf(job).some((one) => one.damage === '' && this.#isWhole(one));
  }

  resumeRefused(job: string): void {
    const there = this.#listOf(job).find((one) => one.damage === '' && this.#isWhole(one));
    if (there === undefined) return;
    this.#broken('I7', 'user', `${job} cannot be resumed though it has the checkpoint of step ${there.committed}`);
  }

  /** What a generation restores, once it is stored; undefined if a peer has the state. */
  generationStored(record: GenerationRecord, before: GenerationRecord | undefined): StateContent | undefined {
    const where = `etcd ${record.job}`;
    const restores = this.#planned.get(attemptOf(record));
    if (record.roster.every(({ heals }) => heals) !== (restores !== undefined)) {
      this.#broken('I6', where, `all members of generation ${record.generation} heal, and not from a checkpoint`);
    }
    if (restores === undefined) {
      if (before === undefined && this.world.etcd.jobs.get(record.job)?.resumedFrom !== '') {
        this.#broken('I2', where, `continues another job and begins at step ${record.committed} without its state`);
      }
      return undefined;
    }
    if (record.committed !== restores.committed) {
      this.#broken('I2', where, `restores step ${restores.committed} and begins at ${record.committed}`);
    }
    this.#checkPeersFirst(record, before, restores, where);
    this.#checkNewest(record, restores, where);
    this.restored += 1;
    const content = this.#contents.get(keyOf(restores));
    return content ?? this.#broken('I6', where, `restores ${restores.path}, which was never published`);
  }

  /** Whoever has a state that counts and is as far as the checkpoint is asked for it. */
  #checkPeersFirst(
    record: GenerationRecord,
    before: GenerationRecord | undefined,
    { committed }: CheckpointRecord,
    where: string,
  ): void {
    const answers = this.#answers.get(attemptOf(record));
    const old = new Map((before?.roster ?? []).map((member) => [member.worker, member]));
    const having = record.roster.flatMap((member) => {
      const holding = answers?.get(member.incarnation);
      if (holding?.hasState !== true) return [];
      const last = old.get(member.worker);
      const same = last?.incarnation === member.incarnation && last.engineStart === member.engineStart;
      const healed = !last?.heals || (holding.generation === before?.generation && holding.started);
      return [{ worker: member.worker, committed: holding.committed, isVeteran: same && healed }];
    });
    const isStrict = this.historyOf(record.job)?.plan.spec.determinism === 'strict';
    const veterans = having.filter(({ isVeteran }) => isVeteran);
    const counting = isStrict || veterans.length === 0 ? having : veterans;
    const peer = counting.find((one) => one.committed >= committed);
    if (peer === undefined) return;
    const detail = `${peer.worker} has ${peer.committed} steps, and the checkpoint of step ${committed} is restored`;
    this.#broken('I6', where, detail);
  }

  #checkNewest(record: GenerationRecord, restores: CheckpointRecord, where: string): void {
    const isKnown = (one: CheckpointRecord) => one.damage === '' && !this.#heard.has(`${record.term} ${keyOf(one)}`);
    if (!isKnown(restores)) {
      this.#broken('I12', where, `restores the checkpoint of step ${restores.committed}, which is known to be damaged`);
    }
    const newest = this.#listOf(record.job).findLast(isKnown);
    if (newest !== undefined && newest.committed > restores.committed) {
      this.#broken('I7', where, `restores step ${restores.committed} though ${newest.committed} was saved`);
    }
  }

  // Workers.

  prepared(host: WorkerHost, job: string, generation: number, holding: Holding): void {
    const key = attemptOf({ job, generation, term: host.state.term });
    const answers = this.#answers.get(key) ?? new Map<string, Holding>();
    this.#answers.set(key, answers.set(host.incarnation, holding));
  }

  // Coordinators.

  beforeCoordinator({ state }: CoordinatorHost, event: CoordinatorEvent): SavingBefore {
    const message = event.kind === 'session_message' ? event.message : undefined;
    if (message?.kind === 'heartbeat') return NOTHING;
    const restoring: GenerationRecord[] = [];
    const saving = new Map<string, Save>();
    for (const [job, run] of state.jobs) {
      const { formation } = run;
      if (run.saving.save !== undefined) saving.set(job, run.saving.save);
      if (formation.kind !== 'started' || formation.restores === undefined) continue;
      if (!isStepOf(formation.record, event)) restoring.push(formation.record);
    }
    if (message?.kind !== 'restoreFailed') return { restores: undefined, restoring, saving };
    const { formation } = state.jobs.get(message.job) ?? {};
    const isCurrent = formation?.kind === 'started' && formation.record.generation === message.generation;
    return { restores: isCurrent ? formation.restores : undefined, restoring, saving };
  }

  afterCoordinator(
    host: CoordinatorHost,
    event: CoordinatorEvent,
    commands: readonly CoordinatorCommand[],
    { restores, restoring, saving }: SavingBefore,
  ): void {
    const { state } = host;
    for (const { job } of restoring) this.#checkUndisturbed(host, job);
    if (event.kind === 'ticked') for (const run of state.jobs.values()) this.#checkAtWork(host, run);
    if (event.kind === 'session_message') {
      const { message } = event;
      if (message.kind === 'restoreFailed' && message.damaged && restores?.path === message.path) {
        this.#heard.add(`${state.leading?.term} ${keyOf(restores)}`);
      } else if (message.kind === 'shardWritten') this.#checkShard(host, message.job, message.shard);
    }
    for (const command of commands) {
      if (command.kind !== 'write') continue;
      for (const put of command.puts) if (put.kind === 'generation') this.#generationPlanned(host, put.record, saving);
    }
  }

  /** A joiner waits until the others have read what they restore. */
  #checkUndisturbed({ name, state }: CoordinatorHost, job: string): void {
    const { formation } = state.jobs.get(job) ?? {};
    if (formation?.kind === 'preparing' && formation.reason.endsWith(' joins')) {
      this.#broken('I12', name, `${formation.reason}, and the others of ${job} are interrupted in a restore`);
    }
  }

  /** Whoever is to do something for a save is there. */
  #checkAtWork({ name, state }: CoordinatorHost, { record, saving, ending }: JobRun): void {
    const { save } = saving;
    if (save === undefined || ending) return;
    const isThere = (worker: string | undefined) => state.workers.get(worker ?? '')?.job === record.job;
    const unwritten = save.shards.findIndex((shard) => shard.facts === undefined && !isThere(shard.writer));
    if (save.stage === 'writing' && unwritten >= 0) {
      this.#broken('I12', name, `nobody writes shard ${unwritten} of save ${save.save}`);
    }
    if (save.stage === 'publishing' && !isThere(save.publisher)) {
      this.#broken('I12', name, `nobody publishes save ${save.save}`);
    }
  }

  #generationPlanned(
    { name, state }: CoordinatorHost,
    record: GenerationRecord,
    saving: ReadonlyMap<string, Save>,
  ): void {
    const { formation } = state.jobs.get(record.job) ?? {};
    const key = attemptOf(record);
    if (formation?.kind !== 'recording' || this.#planned.has(key)) return;
    const { restores } = formation.plan;
    this.#planned.set(key, restores);
    const save = saving.get(record.job);
    if (restores === undefined || save === undefined || save.committed <= restores.committed) return;
    // A worker whose engine has died has lost its snapshot with the job.
    const isThere = ([name, session]: readonly [string, string]) => {
      const worker = state.workers.get(name);
      return worker?.session === session && worker.job === record.job;
    };
    if (![...save.holders].some(isThere)) return;
    const detail = `restores step ${restores.committed} of ${record.job} while step ${save.committed} is being saved`;
    this.#broken('I6', name, detail);
  }

  /** What is taken for a shard of the save is one. */
  #checkShard({ name, state }: CoordinatorHost, job: string, facts: ShardFacts): void {
    const save = state.jobs.get(job)?.saving.save;
    if (save === undefined || save.shards[facts.shard]?.facts !== facts) return;
    if (!this.#written.has(nameOf(save.save, facts))) {
      this.#broken('I6', name, `takes ${facts.file} for one of save ${save.save}, which has not written it`);
    }
  }

  coordinatorSends({ name }: CoordinatorHost, message: CoordinatorMessage): void {
    if (message.kind === 'publishCheckpoint') this.#checkPublish(name, message);
    else if (message.kind === 'releaseSnapshot') this.#checkRelease(name, message);
    else if (message.kind === 'removeCheckpoint') {
      const { path } = message;
      if (this.#listOf(message.job).some((one) => one.path === path)) {
        this.#broken('I7', name, `has ${path} removed, which etcd lists`);
      }
    }
  }

  #checkPublish(name: string, { save, shards }: Sent<'publishCheckpoint'>): void {
    const missing = shards.find((shard, index) => shard.shard !== index || !this.#written.has(nameOf(save, shard)));
    const count = Number(shards[0]?.file.split('-of-')[1]);
    if (missing !== undefined || shards.length !== count) {
      this.#broken('I6', name, `lets save ${save} be published with ${shards.length} of ${count} shards`);
    }
  }

  #checkRelease(name: string, { job, save, committed, abandoned }: Sent<'releaseSnapshot'>): void {
    if (save === '' || abandoned) return;
    if (this.#listOf(job).some((one) => one.committed === committed && one.damage === '')) return;
    this.#broken('I6', name, `releases the snapshots of step ${committed} before etcd has the checkpoint`);
  }

  // Users.

  /** A cancel that was to save the state is acknowledged. */
  cancelAcknowledged(job: string): void {
    const record = this.world.etcd.jobs.get(job);
    if (record?.state !== 'cancelled') return;
    const step = Number(/after the checkpoint of step (\d+)/.exec(record.reason)?.[1] ?? Number.NaN);
    if (this.#listOf(job).some((one) => one.committed === step && one.damage === '')) return;
    this.#broken('I9', 'user', `${job} is cancelled (${record.reason}), and its state is not saved`);
  }
}
