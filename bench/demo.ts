/**
 * `npm run demo`: three workers train a GPT on the King James Bible; a worker and the leading coordinator are killed on the way; then
 * the same job runs again without faults, with another number of workers, and the weights are compared.
 */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nanoid } from 'nanoid';
import pc from 'picocolors';
import { followJob } from '../cli/follow.js';
import { JobsClient } from '../cli/jobs_client.js';
import { LocalCluster } from '../cli/local_cluster.js';
import { eventLine, logLine } from '../cli/output/event_line.js';
import type { Output } from '../cli/output/output.js';
import { connectEtcd } from '../shared/etcd/client.js';
import { readLeader } from '../shared/etcd/leader_watch.js';
import { readJobFile } from '../shared/job_file.js';
import { medianOf } from '../shared/median.js';
import type { AuditReport, JobEvent, LogEntry } from '../shared/wire/jobs.js';
import { chosenPython } from './python.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
/** Enough to leave a bigram model well behind. */
const STEPS = 200;
const LINE_EVERY_STEPS = 25;
const KILL_WORKER_AT = 0.3;
const KILL_COORDINATOR_AT = 0.6;

type StepCommitted = Extract<JobEvent, { kind: 'stepCommitted' }>;
type JobFinished = Extract<JobEvent, { kind: 'jobFinished' }>;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Shows the course of a run and calls `onStep` for every step. */
class DemoOutput implements Output {
  readonly showsLogs = true;
  /** Duration of every step on the worker that reported it. */
  readonly stepsMs: number[] = [];
  readonly pausesMs: number[] = [];

  constructor(
    private readonly verbose: boolean,
    private readonly onStep: (step: StepCommitted) => void,
  ) {}

  ready(): void {}

  event(event: JobEvent): void {
    if (event.kind === 'recovered') this.pausesMs.push(event.pauseMs);
    if (event.kind !== 'stepCommitted') {
      if (this.verbose || event.kind === 'generationStarted') say(`  ${eventLine(event)}`);
      return;
    }
    this.stepsMs.push(event.stepMs);
    const done = event.step + 1;
    if (done === 1 || done % LINE_EVERY_STEPS === 0)
      say(`  step ${done}/${event.steps}  loss ${event.loss.toFixed(4)}`);
    this.onStep(event);
  }

  log(entry: LogEntry): void {
    if (this.verbose) say(pc.dim(`  ${logLine(entry)}`));
  }

  note(): void {}
  close(): void {}
}

interface Outcome {
  readonly end: JobFinished;
  readonly audit: AuditReport;
  readonly output: DemoOutput;
  readonly seconds: number;
}

interface RunOptions {
  readonly workers: number;
  readonly coordinators: number;
  readonly verbose: boolean;
  readonly faults: boolean;
}

async function runJob(options: RunOptions, signal: AbortSignal): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-demo-'));
  const { spec: example, bundle } = readJobFile(join(repository, 'examples/char_gpt/job.yaml'));
  const spec = { ...example, steps: STEPS };
  const cluster = new LocalCluster({
    folder,
    workers: options.workers,
    coordinators: options.coordinators,
    repository,
    python: chosenPython(),
    environment: process.env,
  });
  try {
    const ready = await cluster.start(signal);
    const client = new JobsClient({ servers: cluster.servers, signal });
    const output = new DemoOutput(options.verbose, ({ step }) => {
      if (!options.faults) return;
      if (step === Math.round(STEPS * KILL_WORKER_AT)) killWorker(ready.pids.workers);
      if (step === Math.round(STEPS * KILL_COORDINATOR_AT)) void killLeader(ready.etcd, ready.pids.coordinators);
    });
    const job = await client.submit({
      operationId: nanoid(),
      spec,
      bundle,
      output: join(folder, 'model'),
      checkpoints: join(folder, 'checkpoints'),
    });
    const beganMs = performance.now();
    const end = await followJob({ client, job, fromSequence: 1, output });
    const seconds = (performance.now() - beganMs) / 1000;
    const audit = await client.audit(job);
    client.close();
    return { end, audit, output, seconds };
  } finally {
    await cluster.stop();
  }
}

function killWorker(workers: Readonly<Record<string, number>>): void {
  const [name, pid] = Object.entries(workers).at(-1) ?? [];
  if (pid === undefined) return;
  say(pc.red(`  >>> kill -9 ${pid}: worker ${name} and its engine`));
  process.kill(pid, 'SIGKILL');
}

async function killLeader(etcdUrl: string, coordinators: readonly number[]): Promise<void> {
  const client = connectEtcd({ endpoints: [etcdUrl], prefix: '/lockstep/', callTimeoutMs: 2_000 });
  try {
    const leader = await readLeader(client);
    const pid = coordinators[Number(leader?.name.slice(1)) - 1];
    if (leader === undefined || pid === undefined) return;
    say(pc.red(`  >>> kill -9 ${pid}: ${leader.name}, the leading coordinator`));
    process.kill(pid, 'SIGKILL');
  } finally {
    client.close();
  }
}

function finite(value: number | undefined): string {
  return value === undefined ? 'unknown' : value.toFixed(4);
}

function report(faulty: Outcome, calm: Outcome): boolean {
  const { stepsMs } = faulty.output;
  const same = faulty.end.weightsDigest !== '' && faulty.end.weightsDigest === calm.end.weightsDigest;
  const heldOut = faulty.end.metrics.get('held_out_loss');
  const bigram = faulty.end.metrics.get('bigram_loss');
  const learned = heldOut !== undefined && bigram !== undefined && heldOut < bigram;
  const stepsLost = calm.audit.steps - faulty.audit.steps;
  say('');
  say(pc.bold('What it came to'));
  say(`  held-out loss         ${finite(heldOut)} nats a character`);
  say(`  a bigram model's      ${finite(bigram)}${learned ? '' : pc.red('  (not beaten!)')}`);
  say(`  pause after the kill  ${faulty.output.pausesMs.map((ms) => `${Math.round(ms)} ms`).join(', ') || 'none'}`);
  say(
    `  duration of a step    median ${Math.round(medianOf(stepsMs))} ms, longest ${Math.round(Math.max(...stepsMs))} ms`,
  );
  say(`  steps lost            ${stepsLost}`);
  say(`  samples lost          ${faulty.audit.samplesLost}, repeated ${faulty.audit.samplesRepeated}`);
  say(`  weights with faults   ${faulty.end.weightsDigest}   (3 workers, 2 killed processes)`);
  say(`  weights without       ${calm.end.weightsDigest}   (2 workers)`);
  say(same ? pc.green('  the same, bit for bit') : pc.red('  THEY DIFFER'));
  return same && learned && stepsLost === 0 && faulty.audit.samplesLost === 0 && faulty.audit.samplesRepeated === 0;
}

const ended = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort());
try {
  say(pc.bold('A GPT learns the King James Bible: 3 workers, 2 coordinators, one etcd, faults on the way'));
  const faulty = await runJob({ workers: 3, coordinators: 2, verbose: true, faults: true }, ended.signal);
  say('');
  say(pc.bold('The same job again: 2 workers, no faults'));
  const calm = await runJob({ workers: 2, coordinators: 1, verbose: false, faults: false }, ended.signal);
  process.exitCode = report(faulty, calm) ? 0 : 1;
} catch (error) {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = ended.signal.aborted ? 130 : 1;
}
