/** A month of a lab: who submits what when, from a seed. */
import { Random } from '../../test/simulator/random.js';

export interface MonthJob {
  readonly job: string;
  readonly user: string;
  readonly priority: number;
  readonly submittedS: number;
  readonly workersMin: number;
  readonly workersMax: number;
  readonly needsGpu: boolean;
  /** Worker-seconds. */
  readonly work: number;
}

export interface MonthMachine {
  readonly worker: string;
  readonly hasGpu: boolean;
}

export interface Month {
  readonly machines: readonly MonthMachine[];
  readonly jobs: readonly MonthJob[];
}

export interface MonthShape {
  readonly seed: number;
  readonly jobs: number;
  readonly machines: number;
  /** Share of the machines' time that the jobs would take. */
  readonly load: number;
}

const DAY_S = 86_400;
export const MONTH_S = 30 * DAY_S;
const GPU_SHARE_OF_MACHINES = 0.6;
const GPU_SHARE_OF_JOBS = 0.5;
const USERS = ['ann', 'bob', 'cleo', 'dan', 'eve', 'finn', 'gil', 'hua', 'ivo', 'jo'];
/** Most jobs are short, and most of the work is in the long ones. */
const SHORTEST_S = 120;
const LONGEST_S = 2 * DAY_S;
const SIZES = [1, 1, 1, 2, 2, 4, 4, 8, 16, 32];
/** Of ten jobs. */
const PRIORITIES = [-1, -1, 0, 0, 0, 0, 0, 0, 0, 1];

export function makeMonth({ seed, jobs: count, machines: machineCount, load }: MonthShape): Month {
  const random = new Random(seed);
  const gpus = Math.round(GPU_SHARE_OF_MACHINES * machineCount);
  const machines = Array.from({ length: machineCount }, (_, index) => ({
    worker: `m${String(index).padStart(3, '0')}`,
    hasGpu: index < gpus,
  }));
  const drawn = Array.from({ length: count }, () => drawJob(random));
  const total = drawn.reduce((sum, { work }) => sum + work, 0);
  const scale = (load * machineCount * MONTH_S) / total;
  const times = drawn.map(() => drawTime(random)).sort((left, right) => left - right);
  const jobs = drawn.map((job, index) => ({
    ...job,
    job: `j${String(index).padStart(4, '0')}`,
    submittedS: times[index] ?? 0,
    work: job.work * scale,
  }));
  return { machines, jobs };
}

function drawJob(random: Random): Omit<MonthJob, 'job' | 'submittedS'> {
  const size = random.pick(SIZES);
  return {
    // Some submit far more than others.
    user: USERS[Math.floor(USERS.length * random.unit() ** 2)] ?? 'ann',
    priority: random.pick(PRIORITIES),
    workersMin: size,
    workersMax: size * random.pick([1, 1, 2, 4]),
    needsGpu: random.chance(GPU_SHARE_OF_JOBS),
    work: size * random.scaled(SHORTEST_S, LONGEST_S),
  };
}

/** Days are three times as busy as nights. */
function drawTime(random: Random): number {
  for (;;) {
    const second = random.between(0, MONTH_S);
    const isDay = (second % DAY_S) / 3600 >= 8 && (second % DAY_S) / 3600 < 20;
    if (isDay || random.chance(1 / 3)) return second;
  }
}
