/**
 * `npm run bench:recovery`: one worker of three is killed while a GPT trains, under Lockstep and under torch.distributed.run with
 * DistributedDataParallel and Gloo, in turn. Prints how long no step was made, and how many steps were lost.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { nanoid } from 'nanoid';
import { JobsClient } from '../cli/jobs_client.js';
import { LocalCluster } from '../cli/local_cluster.js';
import { readJobFile } from '../shared/job_file.js';
import { medianOf } from '../shared/median.js';
import { chosenPython } from './python.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const example = join(repository, 'examples/char_gpt');
const REPETITIONS = 5;
const WORKERS = 3;
const KILL_AT_STEP = 40;
const LAST_STEP = 60;
const SAVE_EVERY = 25;
const RUN_MS = 180_000;

interface Recovery {
  /** From the SIGKILL, right after a step, to the next step, milliseconds. */
  readonly pauseMs: number;
  /** Steps that had been made and had to be made again. */
  readonly stepsLost: number;
  readonly medianStepMs: number;
}

/** Steps in the order in which they were seen, and when. */
class StepClock {
  readonly #seen: { readonly step: number; readonly atMs: number }[] = [];
  #killedMs = 0;
  #before = 0;

  step(step: number, atMs: number): void {
    this.#seen.push({ step, atMs });
  }

  killed(atMs: number): void {
    this.#killedMs = atMs;
    this.#before = this.#seen.length;
  }

  recovery(): Recovery {
    const last = this.#seen[this.#before - 1];
    const next = this.#seen[this.#before];
    if (last === undefined || next === undefined) throw new Error('no step after the kill');
    const gaps = this.#seen.slice(1, this.#before).map(({ atMs }, i) => atMs - (this.#seen[i]?.atMs ?? atMs));
    const redone = Math.max(0, ...this.#seen.slice(this.#before).map(({ step }) => last.step + 1 - step));
    return { pauseMs: next.atMs - this.#killedMs, stepsLost: redone, medianStepMs: medianOf(gaps) };
  }
}

async function lockstep(): Promise<Recovery> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-'));
  const ended = new AbortController();
  const timer = setTimeout(() => ended.abort(), RUN_MS);
  const { spec, bundle } = readJobFile(join(example, 'job.yaml'));
  const cluster = new LocalCluster({
    folder,
    workers: WORKERS,
    coordinators: 1,
    repository,
    python: chosenPython(),
    environment: process.env,
  });
  const clock = new StepClock();
  try {
    const ready = await cluster.start(ended.signal);
    const client = new JobsClient({ servers: cluster.servers, signal: ended.signal });
    const submitted = { ...spec, steps: LAST_STEP + 1, evaluateEvery: 0 };
    const job = await client.submit({
      operationId: nanoid(),
      spec: submitted,
      bundle,
      output: join(folder, 'model'),
      checkpoints: join(folder, 'checkpoints'),
    });
    for await (const event of client.watch(job, 1, true)) {
      if (event.kind !== 'stepCommitted') continue;
      clock.step(event.step, Date.now());
      if (event.step === LAST_STEP) break;
      if (event.step === KILL_AT_STEP) {
        process.kill(ready.pids.workers['w2'] ?? 0, 'SIGKILL');
        clock.killed(Date.now());
      }
    }
    client.close();
  } finally {
    clearTimeout(timer);
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  }
  return clock.recovery();
}

async function torchrun(): Promise<Recovery> {
  const folder = await mkdtemp(join(tmpdir(), 'torchrun-bench-'));
  const { spec } = readJobFile(join(example, 'job.yaml'));
  const peers = join(repository, 'bench/peers');
  const launcher = ['--standalone', '--nproc_per_node', String(WORKERS), '--max_restarts', '3'];
  const script = [
    join(peers, 'ddp_char_gpt.py'),
    ...['--example', example, '--params', spec.paramsJson, '--steps', String(LAST_STEP + 1)],
    ...[
      '--batch',
      String(spec.batch),
      '--save-every',
      String(SAVE_EVERY),
      '--checkpoint',
      join(folder, 'checkpoint.pt'),
    ],
  ];
  const child = spawn(chosenPython(), [join(peers, 'torchrun_launcher.py'), ...launcher, ...script], {
    env: { ...process.env, OMP_NUM_THREADS: '1', PYTHONDONTWRITEBYTECODE: '1' },
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  const timer = setTimeout(() => killGroup(child), RUN_MS);
  try {
    return await watchTorchrun(child);
  } finally {
    clearTimeout(timer);
    killGroup(child);
    await rm(folder, { recursive: true, force: true });
  }
}

async function watchTorchrun(child: ChildProcess): Promise<Recovery> {
  if (child.stdout === null) throw new Error('torchrun has no output');
  const clock = new StepClock();
  const ranks = new Map<number, number>();
  let killed = false;
  for await (const line of createInterface({ input: child.stdout })) {
    const [what, number, value] = line.split(' ');
    if (what === 'rank') ranks.set(Number(number), Number(value));
    if (what !== 'step') continue;
    clock.step(Number(number), Number(value) * 1000);
    if (Number(number) === KILL_AT_STEP && !killed) {
      killed = true;
      process.kill(ranks.get(1) ?? 0, 'SIGKILL');
      clock.killed(Date.now());
    }
  }
  return clock.recovery();
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // All of it has ended.
  }
}

function summary(results: readonly Recovery[]) {
  return {
    pause_ms_median: Math.round(medianOf(results.map((one) => one.pauseMs))),
    pause_ms_max: Math.round(Math.max(...results.map((one) => one.pauseMs))),
    step_ms_median: Math.round(medianOf(results.map((one) => one.medianStepMs))),
    steps_lost: results.map((one) => one.stepsLost),
  };
}

const ours: Recovery[] = [];
const theirs: Recovery[] = [];
for (let i = 0; i < REPETITIONS; i++) {
  ours.push(await lockstep());
  theirs.push(await torchrun());
}
const results = { lockstep: summary(ours), torchrun_ddp_gloo: summary(theirs) };
const table = new Table({ head: ['', 'pause, median', 'pause, longest', 'median step', 'steps lost'] });
for (const [name, one] of Object.entries(results)) {
  table.push([
    name,
    `${one.pause_ms_median} ms`,
    `${one.pause_ms_max} ms`,
    `${one.step_ms_median} ms`,
    one.steps_lost.join(', '),
  ]);
}
process.stdout.write(
  `One of ${WORKERS} workers is killed at step ${KILL_AT_STEP}; ${REPETITIONS} runs each, in turn; ${cpus().length} cores; ` +
    `torchrun saves a checkpoint every ${SAVE_EVERY} steps. The pause is from the kill to the next step.\n${table.toString()}\n`,
);
process.stdout.write(`${JSON.stringify({ event: 'recovery_benchmark', cores: cpus().length, ...results })}\n`);
