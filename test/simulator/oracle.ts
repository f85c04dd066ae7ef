/**
 * Watches over a simulated cluster and throws a Violation when an invariant is broken. It sees everything,
 * changes nothing, and keeps its own account of what is true.
 */
import type { CoordinatorCommand } from '../../coordinator/core/command.js';
import type { CoordinatorEvent } from '../../coordinator/core/event.js';
import { type GenerationRecord, isTerminal, type JobRecord, type Put } from '../../coordinator/core/state.js';
import { nodeKey } from '../../shared/tree.js';
import type { CoordinatorMessage, WorkerMessage } from '../../shared/wire/session.js';
import type { ModelDescription, WorkerCommand } from '../../worker/core/command.js';
import type { WorkerEvent } from '../../worker/core/event.js';
import { JOBS_KEPT } from '../../worker/core/prints.js';
import type { Healing, JobRun } from '../../worker/core/state.js';
import { REPORTS_KEPT } from '../../worker/core/step.js';
import { AccountingOracle } from './accounting_oracle.js';
import { stateDigest } from './checkpoint/image.js';
import { CheckpointOracle, type SavingBefore } from './checkpoint_oracle.js';
import type { CoordinatorHost } from './coordinator_host.js';
import type { Etcd } from './etcd.js';
import { digestOf } from './hashing.js';
import { JobHistory, type Lineage } from './lineage.js';
import { checkLogs } from './log_oracle.js';
import { gradientOf } from './memory.js';
import { PreflightOracle } from './preflight_oracle.js';
import type { JobPlan } from './scenario.js';
import type { WorkerHost } from './worker_host.js';
import { Violation, type World } from './world.js';

const MOST_WRITES = 60;
const MOST_COMMANDS_AT_ENGINE = 40;
const TIMES_KEPT = 101;
/** Of saves: those that are awaited, and those that a leader which is gone has asked for. */
const MOST_SAVE_ACTS = 60;

export interface WorkerBefore {
  readonly term: number;
  readonly run: JobRun | undefined;
  readonly generation: number;
  readonly committed: number;
  readonly started: boolean;
  readonly healing: Healing | undefined;
  /** Microbatches of the step in flight that it holds or is computing. */
  readonly held: ReadonlySet<number>;
  /** The nodes of the tree that these are. */
  readonly nodes: ReadonlySet<string>;
}

export interface CoordinatorBefore {
  readonly accountedMs: number;
  readonly knownSession: boolean;
  readonly saving: SavingBefore;
}

interface Standing {
  readonly run: JobRun;
  lineage: Lineage;
}

const NOTHING: ReadonlySet<number> = new Set();

function leavesOf({ lo, length }: { readonly lo: number; readonly length: number }): readonly number[] {
  return Array.from({ length }, (_, index) => lo + index);
}

function heldBy({ inFlight, committed }: JobRun): ReadonlySet<number> {
  if (inFlight?.step !== committed) return NOTHING;
  return new Set([...inFlight.nodes.values()].flatMap(({ node }) => leavesOf(node)));
}

export class Oracle {
  readonly checkpoints: CheckpointOracle;
  readonly preflights: PreflightOracle;
  readonly #accounting = new AccountingOracle();
  readonly #histories = new Map<string, JobHistory>();
  /** The history of the state that each worker holds. */
  readonly #standings = new Map<string, Standing>();
  readonly #cancelled = new Set<string>();
  /** Of the engines that compute a strict job. */
  readonly #kinds = new Map<string, number>();
  /** By coordinator: one that was slow to begin may follow a newer one, and etcd lets only that one write. */
  readonly #newestTerms = new Map<string, number>();
  /** Faults that were done to engines: what a job may rightly fail of. */
  engineFaults = 0;
  /** When everything was repaired. */
  repairedMs = Number.POSITIVE_INFINITY;
  commits = 0;

  constructor(private readonly world: World) {
    for (const plan of world.scenario.jobs) this.#histories.set(plan.spec.name, new JobHistory(plan));
    this.preflights = new PreflightOracle(world);
    this.checkpoints = new CheckpointOracle(world, (job) => this.#historyOf(job));
  }

  cancelRequested(job: string): void {
    this.#cancelled.add(job);
  }

  jobOf(job: string): JobPlan | undefined {
    return this.#historyOf(job)?.plan;
  }

  #historyOf(job: string): JobHistory | undefined {
    return this.#histories.get(this.world.etcd.jobs.get(job)?.spec.name ?? '');
  }

  /** The weights from which step `step` has to be computed in a generation. */
  weightsOf(job: string, generation: number, step: number): number | undefined {
    return this.#historyOf(job)?.ofGeneration(job, generation)?.weights[step];
  }

  #broken(invariant: string, process: string, detail: string): never {
    throw new Violation(invariant, `${process}: ${detail}`);
  }

  // What etcd is told.

  stored(put: Put, { jobs, generations }: Pick<Etcd, 'jobs' | 'generations'>): void {
    switch (put.kind) {
      case 'job':
        this.#jobStored(put.record, jobs);
        break;
      case 'generation':
        this.#generationStored(put.record, generations.get(put.record.job));
        break;
      case 'checkpoints':
        this.checkpoints.checkpointsStored(put.record);
        break;
    }
  }

  #jobStored(record: JobRecord, jobs: ReadonlyMap<string, JobRecord>): void {
    const before = jobs.get(record.job);
    const where = `etcd ${record.job}`;
    if (before === undefined) {
      const twin = [...jobs.values()].find((other) => other.operationId === record.operationId);
      if (twin !== undefined) this.#broken('I9', where, `operation ${record.operationId} is job ${twin.job} already`);
      if (record.resumedFrom !== '') this.checkpoints.resumed(record);
      this.world.onMoment('submit_stored', this.world.etcd.leader?.name ?? '');
    } else {
      if (isTerminal(before.state) && record.state !== before.state) {
        this.#broken('I10', where, `was ${before.state} and is ${record.state}`);
      }
      if (record.progress.committed < before.progress.committed) {
        this.#broken(
          'I2',
          where,
          `progress goes from ${before.progress.committed} back to ${record.progress.committed}`,
        );
      }
    }
    this.#accounting.stored(record, before);
    const { samplesLost, samplesRepeated, committed } = record.progress;
    const lineages = this.#histories.get(record.spec.name)?.lineages ?? [];
    if (committed > Math.max(0, ...lineages.map((lineage) => lineage.committed))) {
      this.#broken('I4', where, `counts ${committed} steps, more than anybody has committed`);
    }
    if (samplesLost > 0 || samplesRepeated > 0) this.#broken('I4', where, `${samplesLost} samples lost by the audit`);
    if (isTerminal(record.state) && before?.state !== record.state) this.#ended(record, where);
  }

  #ended(record: JobRecord, where: string): void {
    const history = this.#histories.get(record.spec.name);
    if (history === undefined) this.#broken('I9', where, 'nobody submitted this job');
    this.world.onMoment('end_stored', this.world.etcd.leader?.name ?? '');
    const { plan } = history;
    if (record.state === 'cancelled') {
      if (!this.#cancelled.has(record.job)) this.#broken('I9', where, 'cancelled, though nobody asked for it');
    } else if (record.state === 'failed') {
      const user = plan.failsAt !== undefined && record.traceback !== '';
      const crashes = /crashed \d+ times/.test(record.reason) && this.engineFaults > 5;
      const unwritten = /could not be written/.test(record.reason) && this.engineFaults > 4;
      const unsaved = this.checkpoints.mayFailUnsaved(record);
      if (!user && !crashes && !unwritten && !unsaved) this.#broken('I12', where, `failed: ${record.reason}`);
    } else {
      const { steps } = plan.reference;
      const digests = history.lineages.map((lineage) => digestOf(lineage.weights[steps] ?? Number.NaN));
      const isReference = record.weightsDigest === digestOf(plan.reference.weights(steps));
      const isRight = plan.spec.determinism === 'strict' ? isReference : digests.includes(record.weightsDigest);
      if (!isRight) this.#broken('I8', where, 'finished with weights that no run has');
      if (record.progress.committed !== steps) {
        this.#broken('I4', where, `finished with ${record.progress.committed} of ${steps} steps`);
      }
      if (plan.failsAt !== undefined && plan.failsAt < steps)
        this.#broken('I3', where, 'finished though its code fails');
    }
  }

  #generationStored(record: GenerationRecord, before: GenerationRecord | undefined): void {
    const where = `etcd ${record.job}`;
    if (before !== undefined && record.generation <= before.generation) {
      if (JSON.stringify(record) === JSON.stringify(before)) return; // An attempt whose answer was lost is repeated.
      this.#broken('I2', where, `generation ${record.generation} after ${before.generation}`);
    }
    if (before !== undefined && record.term < before.term) {
      this.#broken('I5', where, `generation ${record.generation} of term ${record.term} after term ${before.term}`);
    }
    const state = this.world.etcd.jobs.get(record.job)?.state;
    if (state === undefined || isTerminal(state)) this.#broken('I10', where, `a generation of a job that is ${state}`);
    this.#checkBlocks(record, where);
    this.#checkAlike(record, where);
    this.#placeInHistory(record, before, where);
    this.world.onMoment('generation_stored', this.world.etcd.leader?.name ?? '');
  }

  #checkBlocks(record: GenerationRecord, where: string): void {
    let next = 0;
    for (const { lo, length } of record.roster) {
      if (length > 0 && lo !== next) this.#broken('I3', where, `a block begins at ${lo} where ${next} is next`);
      next += length;
    }
    const microbatches = this.jobOf(record.job)?.spec.microbatches;
    if (next !== microbatches) this.#broken('I3', where, `blocks cover ${next} of ${microbatches} microbatches`);
    if (new Set(record.roster.map((member) => member.worker)).size !== record.roster.length) {
      this.#broken('I3', where, 'a worker is in the roster twice');
    }
  }

  /** A strict job computes on one kind of engine, from its first generation to its last. */
  #checkAlike({ job, roster }: GenerationRecord, where: string): void {
    const plan = this.jobOf(job);
    if (plan?.spec.determinism !== 'strict') return;
    for (const { worker } of roster) {
      const kind = plan.kindOf(worker);
      const first = this.#kinds.get(job) ?? kind;
      this.#kinds.set(job, first);
      if (kind !== first) this.#broken('I8', where, `${worker} is in a generation, and computes other bits`);
    }
  }

  /** Which history the generation continues: that of a member that need not heal. It is a fork if somebody had gone further. */
  #placeInHistory(record: GenerationRecord, before: GenerationRecord | undefined, where: string): void {
    const history = this.#historyOf(record.job);
    if (history === undefined) return;
    const isLoose = history.plan.spec.determinism === 'loose';
    const restored = this.checkpoints.generationStored(record, before);
    if (restored !== undefined) {
      const saved = history.having(restored);
      if (saved === undefined) this.#broken('I6', where, 'restores a state that the job never had');
      history.place(record.job, record.generation, isLoose ? history.fork(saved, record.committed) : saved);
      return;
    }
    const able = record.roster.filter((member) => !member.heals);
    const standing = able
      .map((member) => ({ member, one: this.#standings.get(member.incarnation) }))
      .find(({ member, one }) => one?.run.job === record.job && one.run.engineStart === member.engineStart)?.one;
    const first = history.firstOf(able[0]?.worker ?? '');
    const current = before === undefined ? first : (history.ofGeneration(record.job, before.generation) ?? first);
    const own = standing?.lineage ?? (record.committed === 0 ? first : current);
    if (record.committed > own.committed) {
      this.#broken(
        'I1',
        where,
        `generation ${record.generation} begins at step ${record.committed}, which nobody has committed`,
      );
    }
    if (record.committed < own.committed || !own.agreesWith(current, record.committed)) {
      this.#checkFork(record, before, where);
    }
    // Whoever was left out may still commit the step that it has whole: in a loose job that is another history, which nobody shares.
    history.place(record.job, record.generation, isLoose ? history.fork(own, record.committed) : own);
  }

  /** History may fork only if nobody of the last generation who is in the new one had gone further. */
  #checkFork(record: GenerationRecord, before: GenerationRecord | undefined, where: string): void {
    const stayed = (before?.roster ?? []).filter(({ heals }) => !heals);
    const old = new Map(stayed.map(({ incarnation, engineStart }) => [incarnation, engineStart]));
    for (const member of record.roster) {
      const run = this.world.workers.get(member.worker)?.state.run;
      if (old.get(member.incarnation) !== run?.engineStart || run?.job !== record.job) continue;
      if (run.healing !== undefined) continue;
      if (run.facts !== undefined && run.committed > record.committed) {
        this.#broken(
          'I2',
          where,
          `${member.worker} has ${run.committed} steps, the generation begins at ${record.committed}`,
        );
      }
    }
  }

  // Workers.

  beforeWorker(host: WorkerHost, event: WorkerEvent): WorkerBefore {
    const { term, run } = host.state;
    const starts = event.kind === 'coordinator_message' && event.message.kind === 'start';
    return {
      term,
      run,
      generation: run?.generation ?? 0,
      committed: run?.committed ?? 0,
      started: run?.started ?? false,
      healing: run?.healing,
      held: starts && run !== undefined ? heldBy(run) : NOTHING,
      nodes: new Set(starts ? run?.inFlight?.nodes.keys() : []),
    };
  }

  afterWorker(host: WorkerHost, event: WorkerEvent, commands: readonly WorkerCommand[], before: WorkerBefore): void {
    const { state, name } = host;
    const { run } = state;
    if (state.term < before.term) this.#broken('I2', name, `term goes from ${before.term} back to ${state.term}`);
    this.#checkStale(host, event, commands, before);
    if (run === undefined) return;
    if (run === before.run && run.generation < before.generation) {
      this.#broken('I2', name, `generation goes from ${before.generation} back to ${run.generation}`);
    }
    if (event.kind === 'data_plane_event' && event.event.kind === 'reduced' && run.committed > before.committed) {
      this.#committed(host, run, event.event.step, event.event.facts.consumed);
    } else if (event.kind === 'coordinator_message' && event.message.kind === 'start') {
      if (run.started && !before.started) this.#started(host, run, event.message, before);
    } else if (event.kind === 'engine_event' && event.event.event === 'digest')
      this.#digested(host, run, event.event.weights);
    else if (event.kind === 'engine_event' && event.event.event === 'state_imported' && run.healing === undefined) {
      this.#healed(host, run, event.event.state, before.healing);
    }
    if (event.kind !== 'ticked') this.#checkBounds(host, run);
  }

  /** I5: what is older than what the worker has seen changes nothing. */
  #checkStale(host: WorkerHost, event: WorkerEvent, commands: readonly WorkerCommand[], before: WorkerBefore): void {
    const acts = commands.some((command) => command.kind !== 'log' && command.kind !== 'send');
    switch (event.kind) {
      case 'coordinator_message': {
        const { message } = event;
        const silent = commands.every((command) => command.kind === 'log');
        if (message.term < before.term && !silent) {
          this.#broken('I5', host.name, `acts on ${message.kind} of term ${message.term}, has seen ${before.term}`);
        }
        if (message.kind !== 'prepare' && message.kind !== 'start') break;
        if (before.run?.job !== message.job) break;
        const old =
          message.kind === 'prepare' ? message.generation <= before.generation : message.generation < before.generation;
        const again = message.kind === 'start' && message.generation === before.generation && before.started;
        if ((old || again) && acts) {
          this.#broken(
            'I5',
            host.name,
            `acts on ${message.kind} of generation ${message.generation}, is in ${before.generation}`,
          );
        }
        break;
      }
      case 'engine_event':
      case 'engine_exited':
        if (event.start !== before.run?.engineStart && commands.length > 0) {
          this.#broken('I5', host.name, `acts on ${event.kind} of engine ${event.start}`);
        }
        break;
      case 'data_plane_event':
        if ((event.event.job !== before.run?.job || event.event.generation !== before.generation) && acts) {
          this.#broken('I5', host.name, `acts on ${event.event.kind} of generation ${event.event.generation}`);
        }
        break;
      default:
        break;
    }
  }

  #standingOf(host: WorkerHost, run: JobRun): Standing {
    const known = this.#standings.get(host.incarnation);
    if (known?.run === run) return known;
    const history = this.#historyOf(run.job);
    if (history === undefined) return this.#broken('I9', host.name, `holds job ${run.job}, which is not in etcd`);
    const standing = { run, lineage: history.firstOf(host.name) };
    this.#standings.set(host.incarnation, standing);
    return standing;
  }

  #started(
    host: WorkerHost,
    run: JobRun,
    message: Extract<CoordinatorMessage, { kind: 'start' }>,
    before: WorkerBefore,
  ): void {
    const { name } = host;
    const stored = this.world.etcd.generations.get(run.job);
    const lineage = this.#historyOf(run.job)?.ofGeneration(run.job, message.generation);
    if (stored === undefined || lineage === undefined || stored.generation < message.generation) {
      throw new Violation('I1', `${name}: starts in generation ${message.generation}, which is not in etcd`);
    }
    if (stored.generation === message.generation) this.#checkRoster(name, message, stored);
    this.world.onMoment('started', name);
    const standing = this.#standingOf(host, run);
    const heals = message.roster.some((member) => member.worker === name && member.heals);
    if (heals) this.world.onMoment('healing', name);
    else if (!standing.lineage.agreesWith(lineage, run.committed)) {
      const step = run.committed;
      this.#broken('I1', name, `is at step ${step} with another history than generation ${message.generation}`);
    }
    standing.lineage = lineage;
    this.#checkHeld(name, message, before);
  }

  /** The step in flight is finished, not dropped: what a worker holds stays with it, and nothing else is said to be there. */
  #checkHeld(name: string, message: Extract<CoordinatorMessage, { kind: 'start' }>, before: WorkerBefore): void {
    const rank = message.roster.findIndex((member) => member.worker === name);
    const isHere = before.committed === message.committed && message.roster[rank]?.heals === false;
    for (const { node, held, rank: holder } of message.inFlight) {
      if (held && holder === rank && !(isHere && before.nodes.has(nodeKey(node)))) {
        this.#broken('I3', name, `is said to hold ${nodeKey(node)} of step ${message.committed} and does not`);
      }
      const kept = isHere && !held && leavesOf(node).some((leaf) => before.held.has(leaf));
      if (kept) this.#broken('I3', name, `holds part of ${nodeKey(node)}, which is computed again`);
    }
  }

  #checkRoster(name: string, message: Extract<CoordinatorMessage, { kind: 'start' }>, stored: GenerationRecord): void {
    if (stored.term !== message.term || JSON.stringify(stored.roster) !== JSON.stringify(message.roster)) {
      this.#broken('I1', name, `starts in another generation ${message.generation} than the one in etcd`);
    }
  }

  #committed(host: WorkerHost, run: JobRun, step: number, consumed: readonly string[]): void {
    const { name } = host;
    const { lineage } = this.#standingOf(host, run);
    const history = this.#historyOf(run.job);
    if (history === undefined) return;
    const { reference, spec } = history.plan;
    const content = host.engines.get(run.engineStart)?.memory.slots.get(step % 2);
    const gradient = gradientOf(content);
    if (content?.kind !== 'vector' || content.step !== step) {
      throw new Violation('I1', `${name}: commits step ${step} though its slot holds something else`);
    }
    if (content.taint !== undefined) this.#broken('I3', name, `commits step ${step}: ${content.taint}`);
    if (gradient === undefined) {
      throw new Violation('I1', `${name}: commits step ${step}, whose segments are ${content.segments.join(', ')}`);
    }
    if (spec.determinism === 'strict' && gradient !== reference.root(step)) {
      this.#broken('I3', name, `commits step ${step} with another gradient than the fault-free run`);
    }
    if (consumed.join() !== reference.consumed(step).join())
      this.#broken('I3', name, `step ${step} consumed other samples`);
    if (step === lineage.committed) lineage.append(gradient);
    else if (lineage.gradients[step] !== gradient) this.#broken('I1', name, `commits another result of step ${step}`);
    this.commits += 1;
    this.world.onMoment('step_committed', name);
  }

  #digested(host: WorkerHost, run: JobRun, weights: string): void {
    const report = run.lastDigest;
    if (report === undefined || report.weights !== weights) return;
    const expected = this.#standingOf(host, run).lineage.weights[report.committed];
    if (expected === undefined || digestOf(expected) !== weights) {
      this.#broken('I8', host.name, `has other weights after ${report.committed} steps than its generation`);
    }
  }

  /** Whether from peers or from a checkpoint: it is the state that the generation began with. */
  #healed(host: WorkerHost, run: JobRun, state: string, healing: Healing | undefined): void {
    if (healing === undefined) return;
    const { committed, restore } = healing;
    const weights = this.#standingOf(host, run).lineage.weights[committed];
    if (weights === undefined || stateDigest({ committed, weights }) !== state) {
      const from = restore === undefined ? 'peers' : restore.path;
      this.#broken(
        'I8',
        host.name,
        `has healed from ${from} to a state that its generation has not at step ${committed}`,
      );
    }
    this.world.onMoment('healed', host.name);
  }

  #checkBounds({ name, state, checkpoints }: WorkerHost, run: JobRun): void {
    const over =
      run.outstanding.length > MOST_COMMANDS_AT_ENGINE ||
      (run.healing?.deferred.length ?? 0) > MOST_COMMANDS_AT_ENGINE ||
      run.applying.length > MOST_COMMANDS_AT_ENGINE ||
      run.reports.length > REPORTS_KEPT + 2 ||
      run.stepTimesMs.length > TIMES_KEPT ||
      checkpoints.saves.underWay > MOST_SAVE_ACTS ||
      state.prints.size > JOBS_KEPT ||
      [...state.prints.values()].some(({ characters, limit }) => characters > limit);
    if (over) this.#broken('I11', name, 'a queue of the worker has outgrown its bound');
  }

  workerSends(host: WorkerHost, message: WorkerMessage): void {
    if (message.kind === 'prepared') {
      this.checkpoints.prepared(host, message.job, message.generation, message.holding);
      this.world.onMoment('prepared', host.name);
    } else if (message.kind === 'loaded') this.world.onMoment('loaded', host.name);
    else if (message.kind === 'stepCommitted') this.world.onMoment('reported', host.name);
  }

  described(host: WorkerHost, model: ModelDescription): void {
    const { run } = host.state;
    if (run === undefined) return;
    const { lineage } = this.#standingOf(host, run);
    const { steps } = this.#historyOf(run.job)?.plan.reference ?? { steps: 0 };
    if (model.steps !== steps || model.weightsDigest !== digestOf(lineage.weights[steps] ?? Number.NaN)) {
      this.#broken(
        'I8',
        host.name,
        `describes a model after ${model.steps} steps with other weights than its generation's`,
      );
    }
    this.world.onMoment('finishing', host.name);
  }

  // Coordinators.

  beforeCoordinator(host: CoordinatorHost, event: CoordinatorEvent): CoordinatorBefore {
    this.preflights.beforeCoordinator(host, event);
    const knownSession = event.kind !== 'session_message' || host.state.sessions.has(event.session);
    return {
      accountedMs: host.state.accountedMs,
      knownSession,
      saving: this.checkpoints.beforeCoordinator(host, event),
    };
  }

  afterCoordinator(
    host: CoordinatorHost,
    event: CoordinatorEvent,
    commands: readonly CoordinatorCommand[],
    before: CoordinatorBefore,
  ): void {
    const { state, name } = host;
    if (event.kind === 'elected') {
      const newest = this.#newestTerms.get(name) ?? 0;
      if (event.term <= newest) this.#broken('I2', name, `term ${event.term} after ${newest}`);
      this.#newestTerms.set(name, event.term);
    }
    const stale = event.kind === 'session_message' && event.message.kind !== 'hello' && !before.knownSession;
    if (stale && commands.some((command) => command.kind !== 'close_session')) {
      this.#broken('I5', name, `acts on ${event.message.kind} of a session that has ended`);
    }
    this.checkpoints.afterCoordinator(host, event, commands, before.saving);
    this.#accounting.after(host, event, before.accountedMs);
    if (event.kind === 'ticked') this.#checkRest(host);
    for (const command of commands) {
      if (command.kind === 'send') {
        if (command.message.kind === 'load') this.preflights.loads(host, command.session);
        this.#coordinatorSends(host, command.message);
      } else if (command.kind === 'publish') this.#checkEvents(host, command.job);
    }
    if (event.kind === 'session_message' && event.message.kind === 'logLines') checkLogs(host, event.message.job);
    if (state.writes.size > MOST_WRITES) this.#broken('I11', name, `${state.writes.size} writes wait`);
  }

  /** Only engines that hang, or faults, bring an exchange to rest. */
  #checkRest({ name, state }: CoordinatorHost): void {
    const { agenda, scenario } = this.world;
    if (agenda.nowMs <= this.repairedMs || scenario.faults.includes('hang_engine')) return;
    for (const { record, formation } of state.jobs.values()) {
      if (formation.kind === 'preparing' && formation.afterStillness) {
        this.#broken('I12', name, `${record.job} had come to rest though nothing fails: ${formation.reason}`);
      }
    }
  }

  #coordinatorSends(host: CoordinatorHost, message: CoordinatorMessage): void {
    switch (message.kind) {
      case 'welcome':
      case 'unload':
      case 'reject':
      case 'measure':
      case 'verdict':
        return;
      default:
        break;
    }
    this.checkpoints.coordinatorSends(host, message);
    const run = host.state.jobs.get(message.job);
    const isEnding = message.kind === 'releaseSnapshot' && message.abandoned;
    if (run === undefined || (isTerminal(run.record.state) && !isEnding)) {
      this.#broken('I10', host.name, `sends ${message.kind} of a job that has ended`);
    }
    const stored = this.world.etcd.jobs.get(message.job);
    if (stored === undefined) this.#broken('I9', host.name, `sends ${message.kind} of a job that is not in etcd`);
    if (message.kind === 'acknowledge' && message.reportsBelow > stored.progress.committed) {
      this.#broken(
        'I4',
        host.name,
        `acknowledges reports below ${message.reportsBelow}, stored are ${stored.progress.committed}`,
      );
    }
    const generation = this.world.etcd.generations.get(message.job);
    if (message.kind === 'start' && (generation === undefined || generation.generation < message.generation)) {
      this.#broken('I1', host.name, `starts generation ${message.generation} before it is in etcd`);
    }
    if (message.kind === 'prepare' && generation !== undefined && message.generation <= generation.generation) {
      if (generation.term <= message.term) {
        this.#broken('I2', host.name, `prepares generation ${message.generation}, ${generation.generation} is stored`);
      }
    }
  }

  #checkEvents({ name, state }: CoordinatorHost, job: string): void {
    const run = state.jobs.get(job);
    if (run === undefined) return;
    const last = run.events.from(run.events.newest);
    if (run.events.length > state.settings.eventLimit) this.#broken('I11', name, 'too many events are kept');
    if (isTerminal(run.record.state) && [...run.events].filter((event) => event.kind === 'jobFinished').length !== 1) {
      this.#broken('I10', name, `job ${job} has ended and says so ${run.events.length === 0 ? 'never' : 'not once'}`);
    }
    if (last?.kind === 'jobFinished' && this.world.etcd.jobs.get(job)?.state !== last.state) {
      this.#broken('I9', name, `says that job ${job} is ${last.state} before etcd has it`);
    }
  }
}
