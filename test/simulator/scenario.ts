/** What a seed stands for: the cluster, the jobs, and which faults may strike. */
import { consumedDigest } from '../../shared/consumption.js';
import { planStep, type StepPlan } from '../../shared/plan.js';
import type { JobSpec } from '../../shared/wire/jobs.js';
import { mix } from './hashing.js';
import { MOMENTS, type Moment } from './moment.js';
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
] as const;
export type Fault = (typeof FAULTS)[number];

/** Some seeds have these alone, whenever something is stored: what is in doubt then is too rare where everything fails. */
const ETCD_FAULTS: readonly Fault[] = ['stop_etcd', 'lose_replies', 'slow_etcd'];
const STORED: readonly Moment[] = ['submit_stored', 'end_stored', 'generation_stored', 'reported'];

export class JobPlan {
  readonly reference: Reference;
  readonly #plans = new Map<number, StepPlan>();

  constructor(
    readonly spec: JobSpec,
    readonly datasetLength: number,
    readonly submitAtMs: number,
    readonly cancelAtMs: number | undefined,
    /** Step at which the user's code raises. */
    readonly failsAt: number | undefined,
    /** Workers of another kind, which compute other bits. */
    private readonly odd: ReadonlySet<string>,
  ) {
    this.reference = new Reference(spec, datasetLength);
  }

  /** A strict job would refuse some of them, and which depends on who comes first: there all are alike. */
  isOdd(worker: string): boolean {
    return this.spec.determinism === 'loose' && this.odd.has(worker);
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
}

/** Which faults a run may have at all: for the first tests of the simulator itself. */
export type Level = 'none' | 'kills' | 'all';

function specOf(random: Random, index: number, workers: number): JobSpec {
  const microbatches = random.chance(0.5) ? random.whole(1, 4) : random.whole(1, 12);
  const workersMin = random.whole(1, Math.min(3, workers));
  return {
    version: 1,
    name: `job${index}`,
    task: 'task.py:Task',
    seed: random.whole(0, 2 ** 31),
    steps: random.whole(3, random.chance(0.3) ? 25 : 12),
    epochs: undefined,
    batch: microbatches * random.whole(1, 2),
    microbatches,
    workersMin,
    workersMax: random.whole(workersMin, 6),
    tail: random.chance(0.5) ? 'drop' : 'keep',
    shuffle: random.chance(0.8),
    precision: 'fp32',
    clipGradNorm: undefined,
    onNonfinite: 'fail',
    evaluateEvery: random.chance(0.3) ? random.whole(1, 5) : 0,
    digestEvery: random.chance(0.6) ? random.whole(1, 4) : 0,
    threads: 1,
    determinism: random.chance(0.3) ? 'loose' : 'strict',
    paramsJson: '{}',
  };
}

function jobOf(random: Random, index: number, workers: number, odd: ReadonlySet<string>): JobPlan {
  const spec = specOf(random, index, workers);
  const datasetLength = spec.batch * random.whole(1, 5) + random.whole(0, spec.batch - 1);
  const submitAtMs = index === 0 ? random.between(0, 500) : random.between(0, 3_000);
  const cancelAtMs = random.chance(0.12) ? submitAtMs + random.between(0, 6_000) : undefined;
  const failsAt = random.chance(0.04) ? random.whole(0, 10) : undefined;
  return new JobPlan(spec, datasetLength, submitAtMs, cancelAtMs, failsAt, odd);
}

function workersOf(random: Random, level: Level): readonly WorkerPlan[] {
  const count = random.whole(1, random.chance(0.3) ? 6 : 4);
  const stays = random.whole(Math.ceil(count / 2), count);
  const late = level === 'all' && random.chance(0.4);
  return Array.from({ length: count }, (_, index) => ({
    name: `w${index + 1}`,
    startsAtMs: late && random.chance(0.4) ? random.between(0, 6_000) : random.between(0, 100),
    leavesAtMs: level === 'all' && index >= stays && random.chance(0.3) ? random.between(1_000, 8_000) : undefined,
  }));
}

export function scenarioOf(seed: number, level: Level = 'all'): Scenario {
  const random = new Random(seed);
  const workers = workersOf(random, level);
  const staying = workers.filter((worker) => worker.leavesAtMs === undefined).length;
  const mixed = random.chance(0.3);
  const odd = new Set(workers.flatMap(({ name }) => (mixed && random.chance(0.4) ? [name] : [])));
  const jobCount = random.chance(0.6) ? 1 : random.whole(2, 3);
  const jobs = Array.from({ length: jobCount }, (_, index) => jobOf(random, index, staying, odd));
  const share = random.between(0.1, 0.5);
  const enabled = FAULTS.filter(() => random.chance(share));
  const faults: readonly Fault[] = level === 'none' ? [] : level === 'kills' ? ['kill_worker'] : enabled;
  const calm = level === 'none' || faults.length === 0 || random.chance(0.02);
  const plan: Scenario = {
    seed,
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
  };
  if (level !== 'all' || random.chance(0.95)) return plan;
  return { ...plan, faults: ETCD_FAULTS, moments: STORED, momentFaults: 8, momentChance: 0.8, faultsUntilMs: 10_000 };
}
