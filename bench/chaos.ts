/**
 * `npm run bench:chaos`: a job on a local cluster, with faults of real processes (and, as root, of a real network) at random moments,
 * and the same job without faults. Prints what the faults cost, and whether the weights are the same.
 */
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { readJobFile } from '../shared/job_file.js';
import type { AuditReport, JobEvent } from '../shared/wire/jobs.js';
import { FaultCluster } from '../test/faults/fault_cluster.js';
import type { Network } from '../test/faults/network.js';
import { repository } from '../test/faults/repository.js';
import type { WatchedJob } from '../test/faults/watched_job.js';
import { FAULT_KINDS, FAULT_NAMES, type FaultKind } from './chaos_faults.js';
import { type ChaosReport, reportOf, type Spread, spreadOf } from './chaos_report.js';
import { type Fault, storm } from './chaos_storm.js';

const CALIBRATION_STEPS = 60;
const LOAD_MS = 120_000;
/** A run with faults may take this many times as long as one without. */
const PATIENCE = 5;
/** Room for what the faults do not hit any more. */
const SPARE = 1.15;

interface Options {
  readonly workers: number;
  readonly coordinators: number;
  readonly faults: readonly FaultKind[];
  readonly rate: number;
  readonly minutes: number | undefined;
  readonly kills: number | undefined;
  readonly steps: number | undefined;
  readonly job: string;
}

interface Outcome {
  readonly end: Extract<JobEvent, { readonly kind: 'jobFinished' }>;
  readonly audit: AuditReport;
  readonly events: readonly JobEvent[];
  /** From the first commit to the last. */
  readonly seconds: number;
  readonly load: number;
}

interface Runs {
  readonly calm: Outcome;
  readonly faulty: Outcome;
  readonly faults: readonly Fault[];
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function parseKinds(text: string): readonly FaultKind[] {
  return text.split(',').map((word) => {
    const kind = FAULT_KINDS.find((known) => known === word);
    if (kind === undefined) throw new Error(`--faults: ${word} is none of ${FAULT_KINDS.join(', ')}`);
    return kind;
  });
}

function options(): Options {
  const command = new Command('bench:chaos')
    .addOption(new Option('--workers <n>').default(4).argParser(Number))
    .addOption(new Option('--coordinators <n>').default(2).argParser(Number))
    .addOption(new Option('--faults <kinds>', FAULT_KINDS.join(',')).default('worker,engine').argParser(parseKinds))
    .addOption(new Option('--rate <n>', 'faults an hour').default(125).argParser(Number))
    .addOption(new Option('--minutes <n>', 'how long faults are injected').argParser(Number))
    .addOption(new Option('--kills <n>', 'how many faults are injected').argParser(Number))
    .addOption(new Option('--steps <n>', 'length of the job; by default as long as the faults last').argParser(Number))
    .addOption(new Option('--job <file>').default(join(repository, 'examples/char_gpt/job.yaml')))
    .parse();
  return command.opts();
}

async function follow(job: WatchedJob, limitMs: number): Promise<Outcome> {
  const end = await job.untilEnd(limitMs);
  const steps = job.events('stepCommitted');
  const seconds = ((steps.at(-1)?.timeMs ?? 0) - (steps[0]?.timeMs ?? 0)) / 1000;
  const events = job.heard.map(({ event }) => event);
  return { end, audit: await job.audit(), events, seconds, load: loadavg()[0] ?? 0 };
}

class Chaos {
  constructor(
    private readonly options: Options,
    private readonly cluster: FaultCluster,
    private readonly network: Network | undefined,
  ) {}

  async #submit(steps: number): Promise<WatchedJob> {
    const { spec, bundle } = readJobFile(this.options.job);
    await this.cluster.untilAllIdle(LOAD_MS);
    return this.cluster.submitFile({ spec: { ...spec, steps, epochs: undefined }, bundle });
  }

  /** Milliseconds for which faults are injected. */
  #stormMs(): number {
    const { minutes, kills, rate } = this.options;
    return minutes === undefined ? ((kills ?? 1) / rate) * 3_600_000 * SPARE : minutes * 60_000;
  }

  async #stepsFor(ms: number): Promise<number> {
    if (this.options.steps !== undefined) return this.options.steps;
    const { seconds } = await follow(await this.#submit(CALIBRATION_STEPS), LOAD_MS);
    return Math.ceil((ms * CALIBRATION_STEPS) / (seconds * 1000));
  }

  async run(): Promise<Runs> {
    const steps = await this.#stepsFor(this.#stormMs());
    say(`without faults: ${steps} steps`);
    const calm = await follow(await this.#submit(steps), Number.MAX_SAFE_INTEGER);
    say(`  ${calm.seconds.toFixed(1)} s; now with faults`);
    const job = await this.#submit(steps);
    const workers = this.cluster.workers;
    await job.untilRoster(workers, LOAD_MS);
    await job.untilCommitted(5, LOAD_MS);
    const { faults: kinds, rate, minutes, kills } = this.options;
    const faults = await storm({
      cluster: this.cluster,
      network: this.network,
      job,
      kinds,
      rate,
      kills: kills ?? Number.POSITIVE_INFINITY,
      limitMs: minutes === undefined ? Number.POSITIVE_INFINITY : minutes * 60_000,
      say: (line) => say(`  ${line}`),
    });
    return { calm, faulty: await follow(job, calm.seconds * 1000 * PATIENCE + LOAD_MS), faults };
  }
}

function spread({ count, median, max }: Spread, unit: string, digits = 0): string {
  if (count === 0) return 'none';
  return `median ${median.toFixed(digits)}${unit}, longest ${max.toFixed(digits)}${unit} (of ${count})`;
}

interface Summary {
  readonly report: ChaosReport;
  readonly same: boolean;
  readonly stepsLost: number;
  /** Share of the throughput without faults. */
  readonly throughput: number;
}

function summaryOf({ calm, faulty, faults }: Runs): Summary {
  const report = reportOf(faulty.events, faults);
  return {
    report,
    same: faulty.end.weightsDigest !== '' && faulty.end.weightsDigest === calm.end.weightsDigest,
    stepsLost: calm.audit.steps - faulty.audit.steps + report.stepsRedone,
    throughput: calm.seconds / faulty.seconds,
  };
}

function print({ report, stepsLost, throughput }: Summary, { calm, faulty }: Runs): void {
  const phase = (name: 'noticedMs' | 'agreedMs' | 'finishedMs') =>
    spread(spreadOf(report.recoveries.map((one) => one[name])), ' ms');
  say('');
  for (const kind of FAULT_KINDS) {
    const count = report.faults[kind];
    if (count !== undefined) say(`${String(count).padStart(4)} x ${FAULT_NAMES[kind]}`);
  }
  say(`median step                  ${report.medianStepMs.toFixed(0)} ms; ${report.generations} generations`);
  say(`pause, as the product says   ${spread(report.pauses, ' ms')}`);
  say(`pause, from commit to commit ${spread(report.gaps, ' ms')}, each less the median step`);
  say(`  until it is noticed        ${phase('noticedMs')}`);
  say(`  until a generation starts  ${phase('agreedMs')}`);
  say(`  until the step is finished ${phase('finishedMs')}`);
  say(`longest gap elsewhere        ${report.longestOtherGapMs.toFixed(0)} ms beyond the median step (joins, noise)`);
  say(`longest step by the kill of a coordinator, in median steps: ${spread(report.coordinatorSteps, '', 2)}`);
  say(`steps lost                   ${stepsLost}`);
  say(`samples lost, repeated       ${faulty.audit.samplesLost}, ${faulty.audit.samplesRepeated}`);
  say(`weights with faults          ${faulty.end.weightsDigest || `${faulty.end.state}: ${faulty.end.reason}`}`);
  say(`weights without              ${calm.end.weightsDigest}`);
  say(`throughput                   ${(100 * throughput).toFixed(1)}% of that without faults`);
  say(
    `machine                      ${cpus().length} cores; load ${calm.load.toFixed(1)} without, ${faulty.load.toFixed(1)} with`,
  );
}

function json({ report, same, stepsLost, throughput }: Summary, { calm, faulty }: Runs): string {
  const { recoveries, ...figures } = report;
  return JSON.stringify({
    ...figures,
    worst: [...recoveries].sort((left, right) => right.gapMs - left.gapMs).slice(0, 5),
    same_weights: same,
    steps: calm.audit.steps,
    steps_lost: stepsLost,
    samples_lost: faulty.audit.samplesLost,
    samples_repeated: faulty.audit.samplesRepeated,
    throughput,
    cores: cpus().length,
  });
}

const given = options();
const size = { workers: given.workers, coordinators: given.coordinators };
const { cluster, network } = given.faults.includes('link')
  ? await FaultCluster.startInNetwork(size)
  : { cluster: await FaultCluster.start(size), network: undefined };
try {
  const runs = await new Chaos(given, cluster, network).run();
  const summary = summaryOf(runs);
  print(summary, runs);
  say(json(summary, runs));
  const { samplesLost, samplesRepeated } = runs.faulty.audit;
  process.exitCode = summary.same && summary.stepsLost === 0 && samplesLost + samplesRepeated === 0 ? 0 : 1;
} finally {
  await cluster.stop();
}
