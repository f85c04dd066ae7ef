/** What a seed stands for: the cluster, the jobs, and which faults may strike. */
import { consumedDigest } from '../../shared/consumption.js';
import { planStep, type StepPlan } from '../../shared/plan.js';
import type { JobSpec } from '../../shared/wire/jobs.js';
import { mix } from './hashing.js';
import { MOMENTS, type Moment } from './moment.js';
import { type PreflightPlan, preflightPlanOf } from './preflights.js';
import { Random } from './random.js';
import { Reference } from './reference.js';

export const FAULTS = [
  'kill_worker',
  'vanish_worker',
  'stop_worker',
  'freeze_worker',
  'cut_session',
  'crash_engine',
  'hang_engine',
  'slow_worker',
  'kill_coordinator',
  'stop_coordinator',
  'freeze_coordinator',
  'part_workers',
  'part_session',
  'part_etcd',
  'stop_etcd',
  'lose_replies',
  'slow_etcd',
  'revoke_leases',
  'jump_clock',
  'slow_link',
  'kill_job',
  'kill_everything',
  'stop_everything',
  'stop_last_worker',
  'spoil_checkpoint',
  'part_storage',
  'fill_storage',
  'slow_storage',
  'cordon_worker',
  'drain_worker',
] as const;
export type Fault = (typeof FAULTS)[number];

/** They leave little standing for others to strike. */
const RARE_FAULTS: ReadonlySet<Fault> = new Set(['kill_everything', 'stop_everything']);

/**
 * Most seeds have faults of many kinds. Some have those of etcd alone, whenever something is stored: what is in doubt then is too rare
 * where everything fails. Others save often, and lose all that the workers have, again and again. Some save more slowly than they
 * train, while workers fall behind and return: what is written is older than what is trained. In others sessions begin again and again,
 * slowly, while engines load.
 */
type Kind = 'many' | 'etcd' | 'losses' | 'slow_saves' | 'greetings';

const ETCD_FAULTS: readonly Fault[] = ['stop_etcd', 'lose_replies', 'slow_etcd'];
const STORED: readonly Moment[] = [
  'submit_stored',
  'end_stored',
  'generation_stored',
  'reported',
  'published',
  'checkpoint_stored',
];

const LOSSES: readonly Fault[] = [
  'kill_job',
  'kill_job',
  'kill_everything',
  'stop_everything',
  'stop_last_worker',
  'kill_worker',
  'kill_coordinator',
  'spoil_checkpoint',
  'spoil_checkpoint',
  'part_storage',
  'fill_storage',
  'lose_replies',
];
const SAVED: readonly Moment[] = [
  'snapshot_taken',
  'shard_written',
  'published',
  'checkpoint_stored',
  'restore_begun',
  'part_restored',
  'state_corrupt',
  'elected',
  'submit_stored',
  'end_stored',
];

const LAGGING: readonly Fault[] = [
  'cut_session',
  'cut_session',
  'cut_session',
  'freeze_worker',
  'part_workers',
  'crash_engine',
  'fill_storage',
];
const WRITING: readonly Moment[] = ['snapshot_taken', 'step_committed', 'shard_written', 'healed'];

const GREETING_FAULTS: readonly Fault[] = ['cut_session', 'cut_session', 'slow_link', 'slow_link', 'kill_coordinator'];
const GREETING: readonly Moment[] = ['loading', 'loaded', 'session_opened', 'elected'];

export interface JobPlanOptions {
  readonly spec: JobSpec;
  readonly datasetLength: number;
  readonly submitAtMs: number;
  /** Its user cancels it, perhaps so that its state is saved first. */
  readonly cancel: { readonly atMs: number; readonly checkpoint: boolean } | undefined;
  /** Its user lets another job go on from its checkpoint when it has failed or was cancelled. */
  readonly isResumed: boolean;
  /** Step at which the user's code raises. */
  readonly failsAt: number | undefined;
  /** Workers of another kind, which compute other bits: a loose job takes them. */
  readonly odd: ReadonlySet<string>;
  /** Workers whose engines have another fingerprint: a strict job takes them, or all the others. */
  readonly strangers: ReadonlySet<string>;
}

export class JobPlan {
  readonly reference: Reference;
  readonly #plans = new Map<number, StepPlan>();

  constructor(private readonly options: JobPlanOptions) {
    this.reference = new Reference(options.spec, options.datasetLength);
  }

  get user(): string {
    return `user${this.options.spec.seed % 2}`;
  }

  get spec(): JobSpec {
    return this.options.spec;
  }

  get datasetLength(): number {
    return this.options.datasetLength;
  }

  get submitAtMs(): number {
    return this.options.submitAtMs;
  }

  get cancel(): JobPlanOptions['cancel'] {
    return this.options.cancel;
  }

  get isResumed(): boolean {
    return this.options.isResumed;
  }

  get failsAt(): number | undefined {
    return this.options.failsAt;
  }

  /** What a strict job has to compute must not depend on who comes first: strangers say that they differ, and do not. */
  isOdd(worker: string): boolean {
    return this.spec.determinism === 'loose' && this.options.odd.has(worker);
  }

  /** Of its engine. */
  kindOf(worker: string): number {
    const isStrict = this.spec.determinism === 'strict';
    return (isStrict ? this.options.strangers : this.options.odd).has(worker) ? 2 : 1;
  }

  initialWeightsOn(worker: string): number {
    return this.isOdd(worker) ? mix(this.reference.initialWeights, 1) : this.reference.initialWeights;
  }

  stepPlan(step: number): StepPlan {
    let plan = this.#plans.get(step);
    if (plan === undefined) {
      plan = planStep(this.reference.shape, step);
      this.#plans.set(step, plan);
    }
    return plan;
  }

  /** What an engine reports that it consumed. */
  consumedOf(step: number, lo: number, samples: readonly (readonly number[])[]): readonly string[] {
    const planned = this.stepPlan(step).samples;
    const known = this.reference.consumed(step);
    return samples.map((ids, index) => {
      const expected = planned[lo + index] ?? [];
      const same = ids.length === expected.length && ids.every((id, at) => id === expected[at]);
      return same ? (known[lo + index] ?? '') : consumedDigest(ids);
    });
  }

  countsOf(step: number): { readonly weight: number; readonly filled: number } {
    const { samples, count } = this.stepPlan(step);
    return { weight: count, filled: samples.filter((ids) => ids.length > 0).length };
  }
}

export interface WorkerPlan {
  readonly name: string;
  readonly startsAtMs: number;
  /** When it goes and never comes back. */
  readonly leavesAtMs: number | undefined;
}

export interface Scenario {
  readonly seed: number;
  readonly coordinators: readonly string[];
  readonly workers: readonly WorkerPlan[];
  readonly jobs: readonly JobPlan[];
  readonly ttlMs: number;
  /** Length of everything that an engine does in a step. */
  readonly stepScale: number;
  readonly faults: readonly Fault[];
  /** Faults that come at random times, up to `faultsUntilMs`. */
  readonly timedFaults: number;
  readonly faultsUntilMs: number;
  /** Faults that strike at moments, and how likely each occurrence of such a moment draws one. */
  readonly moments: readonly Moment[];
  readonly momentFaults: number;
  readonly momentChance: number;
  readonly longestFreezeMs: number;
  /** How likely a fault draws another one within a moment. */
  readonly pairs: number;
  /** Factor on everything that the storage of checkpoints does. */
  readonly storageScale: number;
  /** How likely a peer serves bad bytes of a state. */
  readonly spoiltPieces: number;
  /** Undefined: no worker measures itself. */
  readonly preflights: PreflightPlan | undefined;
}

/** Which faults a run may have at all: for the first tests of the simulator itself, and to look long for what goes wrong in few seeds. */
export const LEVELS = ['none', 'kills', 'losses', 'all'] as const;
export type Level = (typeof LEVELS)[number];

interface JobOptions {
  readonly index: number;
  readonly kind: Kind;
  /** How many stay. */
  readonly workers: number;
  readonly odd: ReadonlySet<string>;
  readonly strangers: Strangers;
}

interface Strangers {
  readonly names: ReadonlySet<string>;
  /** So many of them stay, and of the others, at least: a job that needs more could wait for ever. */
  readonly enoughFor: number;
}

/** Minutes are too long for a cluster that runs for seconds here, and the core takes fractions. */
function checkpointMinutes(random: Random): number {
  return random.chance(0.15) ? random.between(0.01, 0.08) : 0;
}

function savesMuch(kind: Kind): boolean {
  return kind === 'losses' || kind === 'slow_saves';
}

function specOf(random: Random, { index, kind, workers }: JobOptions): JobSpec {
  const microbatches = random.chance(0.5) ? random.whole(1, 4) : random.whole(1, 12);
  const workersMin = random.whole(1, Math.min(3, workers));
  return {
    version: 1,
    name: `job${index}`,
    task: 'task.py:Task',
    seed: random.whole(0, 2 ** 31),
    steps: savesMuch(kind)
      ? random.whole(6, kind === 'losses' ? 25 : 40)
      : random.whole(3, random.chance(0.3) ? 25 : 12),
    epochs: undefined,
    batch: microbatches * random.whole(1, 2),
    microbatches,
    workersMin,
    workersMax: random.whole(workersMin, 6),
    tail: random.chance(0.5) ? 'drop' : 'keep',
    shuffle: random.chance(0.8),
    precision: 'fp32',
    exchange: 'fp32',
    clipGradNorm: undefined,
    onNonfinite: 'fail',
    evaluateEvery: random.chance(0.3) ? random.whole(1, 5) : 0,
    digestEvery: random.chance(0.6) ? random.whole(1, 4) : 0,
    threads: 1,
    determinism: random.chance(0.3) ? 'loose' : 'strict',
    paramsJson: '{}',
    checkpointEvery: random.chance(savesMuch(kind) ? 0.9 : 0.5) ? random.whole(1, kind === 'slow_saves' ? 2 : 4) : 0,
    checkpointMinutes: checkpointMinutes(random),
    checkpointKeep: random.whole(1, 3),
    checkpointKeepEvery: random.chance(0.3) ? random.whole(1, 6) : 0,
    maxRestores: random.chance(0.05) ? random.whole(1, 4) : 100,
    initFrom: undefined,
    priority: random.chance(0.3) ? random.whole(-1, 1) : 0,
    needsCpus: 0,
    needsGpus: 0,
    needsMemoryGib: 0,
    where: [],
  };
}

function jobOf(random: Random, options: JobOptions): JobPlan {
  const { index, kind, odd, strangers } = options;
  const spec = specOf(random, options);
  const datasetLength = spec.batch * random.whole(1, 5) + random.whole(0, spec.batch - 1);
  const submitAtMs = index === 0 ? random.between(0, 500) : random.between(0, 3_000);
  const cancel = random.chance(0.2)
    ? { atMs: submitAtMs + random.between(0, 6_000), checkpoint: random.chance(0.5) }
    : undefined;
  const failsAt = random.chance(0.04) ? random.whole(0, 10) : undefined;
  return new JobPlan({
    spec,
    datasetLength,
    submitAtMs,
    cancel,
    isResumed: random.chance(kind === 'losses' ? 0.9 : 0.5),
    failsAt,
    odd,
    strangers: spec.workersMin <= strangers.enoughFor ? strangers.names : new Set(),
  });
}

/** A stream of its own, so that nothing else of a seed depends on it. */
const STRANGERS_STREAM = 4;

function strangersOf(seed: number, workers: readonly WorkerPlan[]): Strangers {
  const random = new Random(seed, STRANGERS_STREAM);
  const share = random.chance(0.3) ? 0.4 : 0;
  const names = new Set(workers.flatMap(({ name }) => (random.chance(share) ? [name] : [])));
  const staying = workers.filter(({ leavesAtMs }) => leavesAtMs === undefined);
  const strange = staying.filter(({ name }) => names.has(name)).length;
  return { names, enoughFor: Math.min(strange, staying.length - strange) };
}

function mayBeAnything(level: Level): boolean {
  return level === 'all' || level === 'losses';
}

function workersOf(random: Random, level: Level): readonly WorkerPlan[] {
  const count = random.whole(1, random.chance(0.3) ? 6 : 4);
  const stays = random.whole(Math.ceil(count / 2), count);
  const late = mayBeAnything(level) && random.chance(0.4);
  return Array.from({ length: count }, (_, index) => ({
    name: `w${index + 1}`,
    startsAtMs: late && random.chance(0.4) ? random.between(0, 6_000) : random.between(0, 100),
    leavesAtMs: mayBeAnything(level) && index >= stays && random.chance(0.3) ? random.between(1_000, 8_000) : undefined,
  }));
}

const SHARES: readonly { readonly below: number; readonly kind: Kind }[] = [
  { below: 0.05, kind: 'etcd' },
  { below: 0.2, kind: 'losses' },
  { below: 0.25, kind: 'slow_saves' },
  { below: 0.3, kind: 'greetings' },
];

function kindOf(random: Random, level: Level): Kind {
  if (level === 'losses') return 'losses';
  if (level !== 'all') return 'many';
  const drawn = random.unit();
  return SHARES.find(({ below }) => drawn < below)?.kind ?? 'many';
}

/** What is of the same kind in all seeds of a kind. */
function narrowed(random: Random, kind: Kind, plan: Scenario): Scenario {
  switch (kind) {
    case 'many':
      return plan;
    case 'etcd': {
      const often = { momentFaults: 8, momentChance: 0.8, faultsUntilMs: 10_000 };
      return { ...plan, ...often, faults: ETCD_FAULTS, moments: STORED };
    }
    case 'losses': {
      const often = { momentFaults: 8, momentChance: random.scaled(0.05, 0.8), faultsUntilMs: 10_000 };
      const moments = SAVED.filter(() => random.chance(0.5));
      return { ...plan, ...often, faults: LOSSES, moments, timedFaults: 3, stepScale: random.scaled(3, 30) };
    }
    case 'slow_saves': {
      const often = { momentFaults: 16, momentChance: random.scaled(0.1, 0.8), faultsUntilMs: 10_000 };
      const slow = { storageScale: random.scaled(5, 50), stepScale: random.scaled(2, 8) };
      return { ...plan, ...often, ...slow, faults: LAGGING, moments: WRITING, timedFaults: 3 };
    }
    case 'greetings': {
      const often = { momentFaults: 8, momentChance: random.scaled(0.2, 0.8) };
      return { ...plan, ...often, faults: GREETING_FAULTS, moments: GREETING, timedFaults: 3 };
    }
  }
}

export function scenarioOf(seed: number, level: Level = 'all'): Scenario {
  const random = new Random(seed);
  const kind = kindOf(random, level);
  const workers = workersOf(random, level);
  const staying = workers.filter((worker) => worker.leavesAtMs === undefined).length;
  const mixed = random.chance(0.3);
  const odd = new Set(workers.flatMap(({ name }) => (mixed && random.chance(0.4) ? [name] : [])));
  const jobCount = random.chance(0.6) ? 1 : random.whole(2, 3);
  const common = { kind, workers: staying, odd, strangers: strangersOf(seed, workers) };
  const jobs = Array.from({ length: jobCount }, (_, index) => jobOf(random, { ...common, index }));
  const share = random.between(0.1, 0.5);
  const enabled = FAULTS.filter((fault) => random.chance(RARE_FAULTS.has(fault) ? share / 2 : share));
  const faults: readonly Fault[] = level === 'none' ? [] : level === 'kills' ? ['kill_worker'] : enabled;
  const calm = level === 'none' || faults.length === 0 || random.chance(0.02);
  const names = workers.map(({ name }) => name);
  return narrowed(random, kind, {
    seed,
    preflights: mayBeAnything(level) ? preflightPlanOf(seed, names) : undefined,
    coordinators: Array.from({ length: random.whole(1, 3) }, (_, index) => `c${index + 1}`),
    workers,
    jobs,
    ttlMs: random.whole(2, 5) * 1_000,
    stepScale: random.scaled(1, 20),
    faults,
    timedFaults: calm ? 0 : random.whole(0, 6),
    faultsUntilMs: random.scaled(1_500, 10_000),
    moments: MOMENTS.filter(() => random.chance(0.3)),
    momentFaults: calm ? 0 : random.whole(0, 8),
    momentChance: random.scaled(0.03, 0.8),
    longestFreezeMs: random.chance(0.5) ? 1_500 : 9_000,
    pairs: random.chance(0.5) ? 0 : random.between(0.1, 0.6),
    storageScale: random.scaled(0.2, 10),
    spoiltPieces: mayBeAnything(level) && random.chance(0.1) ? random.scaled(0.01, 0.3) : 0,
  });
}
