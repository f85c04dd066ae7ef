/** Runs the cluster of one seed until its jobs have ended, and says what was broken. */
import { Faults } from './faults.js';
import { missingLines } from './log_oracle.js';
import { type Level, scenarioOf } from './scenario.js';
import { User } from './user.js';
import { Violation, World } from './world.js';

/** Simulated time in which everything has to end once nothing fails any more. */
const SETTLE_MS = 150_000;
/** An engine that hangs is given ten times as long as a step before: 10 times the slowest apply of the slowest worker. */
const HANG_MS = 10 * 200 * 10;
/** And this long in its first step. */
const FIRST_HANG_MS = 120_000;
/** Time for the last messages when all jobs have ended. */
const CLEANUP_MS = 9_000;
/** Time for a new leader to hear what the workers have kept of the logs. */
const LOGS_MS = 30_000;
const MOST_EVENTS = 3_000_000;

export interface SeedResult {
  readonly seed: number;
  /** What was broken, or undefined. */
  readonly failure: string | undefined;
  readonly trace: number;
  readonly events: number;
  readonly commits: number;
  /** Checkpoints that were recorded, and generations that restored one. */
  readonly saved: number;
  readonly restored: number;
  readonly simulatedMs: number;
}

export interface SeedOptions {
  readonly level?: Level;
  readonly print?: (line: string) => void;
}

export function runSeed(seed: number, { level = 'all', print }: SeedOptions = {}): SeedResult {
  const world = new World(scenarioOf(seed, level), print);
  let failure: string | undefined;
  try {
    simulate(world);
  } catch (error) {
    failure =
      error instanceof Violation
        ? error.message
        : `crash: ${error instanceof Error ? (error.stack ?? error.message) : error}`;
  }
  const { agenda, oracle, trace } = world;
  const { saved, restored } = oracle.checkpoints;
  return {
    seed,
    failure,
    trace,
    events: agenda.done,
    commits: oracle.commits,
    saved,
    restored,
    simulatedMs: agenda.nowMs,
  };
}

/** Runs a seed twice: two different traces mean that something is not a function of the seed. */
export function runSeedTwice(seed: number, options: SeedOptions = {}): SeedResult {
  const first = runSeed(seed, options);
  const second = runSeed(seed, { level: options.level ?? 'all' });
  if (first.failure === undefined && (first.trace !== second.trace || first.events !== second.events)) {
    return { ...first, failure: `determinism: two runs of the seed differ (${first.trace}, ${second.trace})` };
  }
  return first;
}

function simulate(world: World): void {
  const { agenda, scenario } = world;
  const faults = new Faults(world);
  const users = scenario.jobs.map((plan) => new User(world, plan));
  const ended = () => faults.over && users.every((user) => user.hasAllItWanted);
  const hangMs = scenario.faults.includes('hang_engine') ? FIRST_HANG_MS + HANG_MS * scenario.stepScale : 0;
  runUntil(world, ended, SETTLE_MS + hangMs + scenario.faultsUntilMs + 6_000, () => unfinished(world, users));
  runUntil(
    world,
    () => cleanedUp(world),
    agenda.nowMs + CLEANUP_MS,
    () => leftBehind(world),
  );
  runUntil(
    world,
    () => missingLines(world) === undefined,
    agenda.nowMs + LOGS_MS,
    () => `all is over, and ${missingLines(world)}`,
  );
}

function runUntil(world: World, done: () => boolean, limitMs: number, complaint: () => string): void {
  const { agenda } = world;
  // Looking at everything after each event would cost more than the events.
  for (let count = 1; ; count++) {
    if (count % 64 === 0 && done()) return;
    if (agenda.nowMs > limitMs || agenda.done > MOST_EVENTS || !agenda.step()) {
      if (done()) return;
      throw new Violation('I12', complaint());
    }
  }
}

function unfinished({ etcd, agenda, workers }: World, users: readonly User[]): string {
  const jobs = users.map(({ job, plan, resumed }) => {
    const record = etcd.jobs.get(resumed ?? job ?? '');
    const name = resumed === undefined ? plan.spec.name : `${plan.spec.name} (resumed)`;
    return `${name} is ${record?.state ?? 'not submitted'} with ${record?.progress.committed ?? 0} of ${plan.spec.steps} steps`;
  });
  const held = [...workers.values()].map(({ name, alive, state }) => {
    const { run } = state;
    return `${name} ${alive ? '' : 'dead '}${run === undefined ? 'idle' : `${run.job} generation ${run.generation} step ${run.committed}`}`;
  });
  return `nothing fails any more and yet after ${Math.round(agenda.nowMs)} ms ${jobs.join('; ')}. Workers: ${held.join('; ')}`;
}

function cleanedUp({ workers }: World): boolean {
  return [...workers.values()].every(
    ({ alive, engines, state }) => !alive || (engines.size === 0 && state.run === undefined),
  );
}

function leftBehind({ workers }: World): string {
  const names = [...workers.values()].filter(({ alive, engines }) => alive && engines.size > 0).map(({ name }) => name);
  return `all jobs have ended and ${names.join(', ')} still run engines (I10)`;
}
