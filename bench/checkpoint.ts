/**
 * `npm run bench:checkpoint`: what saving a large state costs the training and how fast it is, beside `dd` with fsync on the same disk and
 * one memory copy of the state; and whether resuming takes longer the further a job has come.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import Table from 'cli-table3';
import { Command } from 'commander';
import { nanoid } from 'nanoid';
import { JobsClient } from '../cli/jobs_client.js';
import { LocalCluster } from '../cli/local_cluster.js';
import { parseJobSpec } from '../shared/job_spec.js';
import { medianOf } from '../shared/median.js';
import type { JobEvent } from '../shared/wire/jobs.js';
import { chosenPython } from './python.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const bench = join(repository, 'bench');
const RUN_MS = 1_500_000;
const MIB = 1024 * 1024;
const LONG_STEPS = 1000;
const FROM = [10, 990];

interface Options {
  readonly workers: number;
  /** Of the large model: its state has 36 * width * width bytes. */
  readonly width: number;
  readonly saves: number;
  readonly repetitions: number;
  /** On the disk that is measured. */
  readonly folder: string;
}

const options: Options = new Command('bench:checkpoint')
  .option('--workers <n>', 'workers that train and save', Number, 2)
  .option('--width <n>', 'of the large model', Number, 3840)
  .option('--saves <n>', 'saves that are measured', Number, 6)
  .option('--repetitions <n>', 'of resuming, from each step', Number, 5)
  .option('--folder <path>', 'where to save', tmpdir())
  .parse()
  .opts();

const folder = mkdtempSync(join(options.folder, 'lockstep-bench-'));
const ended = AbortSignal.timeout(RUN_MS);
const run = promisify(execFile);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

type StepCommitted = Extract<JobEvent, { kind: 'stepCommitted' }>;
type Saved = Extract<JobEvent, { kind: 'checkpointCommitted' }>;

/** MiB/s of dd, to the same folder. */
async function ddSpeed(bytes: number): Promise<number> {
  const target = join(folder, 'dd');
  const began = performance.now();
  const count = `count=${Math.ceil(bytes / (4 * MIB))}`;
  await run('dd', ['if=/dev/zero', `of=${target}`, 'bs=4M', count, 'conv=fsync']);
  const seconds = (performance.now() - began) / 1000;
  rmSync(target);
  return bytes / MIB / seconds;
}

async function copyMs(bytes: number): Promise<number> {
  return Number((await run(chosenPython(), [join(bench, 'checkpoint_copy.py'), String(bytes)])).stdout);
}

function specOf(keys: Readonly<Record<string, unknown>>) {
  return parseJobSpec(JSON.stringify({ version: 1, seed: 1, ...keys }));
}

async function submit(client: JobsClient, spec: ReturnType<typeof specOf>): Promise<string> {
  const output = join(folder, nanoid());
  return client.submit({
    operationId: nanoid(),
    spec,
    bundle: bench,
    output,
    checkpoints: join(folder, 'checkpoints'),
  });
}

interface SaveFigures {
  readonly stateBytes: number;
  readonly medianStepMs: number;
  /** The longest step that was under way during each save. */
  readonly longestStepMs: readonly number[];
  readonly saveMs: readonly number[];
  readonly writeMs: readonly number[];
  /** Of dd while the same job trained, after each save; and when nothing else ran. */
  readonly ddSpeeds: readonly number[];
  readonly ddAloneSpeeds: readonly number[];
  readonly copyMs: number;
}

/** Steps that were under way while the save was: the one that the snapshot was taken after, and those that ended before it was recorded, and one more. */
function stepsDuring(steps: readonly StepCommitted[], { step, timeMs }: Saved): readonly StepCommitted[] {
  const first = steps.findIndex((one) => one.step >= step);
  const last = steps.findIndex((one) => one.timeMs > timeMs);
  return first < 0 ? [] : steps.slice(first, last < 0 ? steps.length : last + 1);
}

async function measureSaves(client: JobsClient): Promise<SaveFigures> {
  const every = 10;
  const spec = specOf({
    name: 'large',
    task: 'checkpoint_task.py:LargeState',
    steps: every * (options.saves + 1) + every,
    batch: 2 * options.workers,
    microbatches: options.workers,
    checkpoint: { every, minutes: 0, keep: 1 },
    params: { width: options.width },
  });
  const stateBytes = 36 * options.width ** 2;
  const ddSpeeds: number[] = [];
  const ddAloneSpeeds: number[] = [];
  /** Steps that dd was in the way of. */
  const beside = new Set<number>();
  let dd: Promise<void> | undefined;
  const steps: StepCommitted[] = [];
  const saved: Saved[] = [];
  const job = await submit(client, spec);
  for await (const event of client.watch(job, 1, true)) {
    if (event.kind === 'stepCommitted') {
      steps.push(event);
      if (dd !== undefined) beside.add(event.step);
      // Half-way between two saves.
      if (event.step % every === every / 2 + 1 && event.step > every) {
        beside.add(event.step + 1);
        dd = ddSpeed(stateBytes).then((speed) => {
          ddSpeeds.push(speed);
          dd = undefined;
        });
      }
    }
    if (event.kind === 'checkpointFailed')
      throw new Error(`step ${event.step} was not saved: ${event.error}; a larger --width makes longer steps`);
    if (event.kind === 'checkpointCommitted') {
      saved.push(event);
      say(
        `  saved step ${event.step}: ${Math.round(event.saveMs)} ms, of which writing ${Math.round(event.writeMs)} ms`,
      );
    }
    if (event.kind === 'jobFinished' && event.state !== 'finished') throw new Error(event.reason);
  }
  await dd;
  for (let one = 0; one < options.saves; one++) ddAloneSpeeds.push(await ddSpeed(stateBytes));
  // The first save touches its memory for the first time.
  const measured = saved.slice(1, 1 + options.saves);
  const inSaves = measured.map((save) => stepsDuring(steps, save));
  const others = steps
    .slice(1)
    .filter((one) => !beside.has(one.step) && !saved.some((save) => stepsDuring(steps, save).includes(one)));
  return {
    stateBytes,
    medianStepMs: medianOf(others.map(({ stepMs }) => stepMs)),
    longestStepMs: inSaves.map((during) => Math.max(...during.map(({ stepMs }) => stepMs))),
    saveMs: measured.map(({ saveMs }) => saveMs),
    writeMs: measured.map(({ writeMs }) => writeMs),
    ddSpeeds,
    ddAloneSpeeds,
    copyMs: await copyMs(stateBytes),
  };
}

interface ResumeFigures {
  readonly from: number;
  /** From the request to the first step. */
  readonly firstStepMs: readonly number[];
  /** Samples that one worker had read when it made its first step. */
  readonly samplesRead: readonly number[];
}

async function measureResumes(client: JobsClient): Promise<readonly ResumeFigures[]> {
  const jobs = new Map<number, string>();
  // What is printed at the first step after a resume is part of the spec, so each place has a job of its own.
  for (const from of FROM) {
    const spec = specOf({
      name: `long${from}`,
      task: 'checkpoint_task.py:LongData',
      steps: LONG_STEPS,
      batch: 1000,
      microbatches: options.workers,
      checkpoint: { every: from, minutes: 0, keep: 100 },
      params: { first: from },
    });
    const job = await submit(client, spec);
    for await (const event of client.watch(job, 1, true)) {
      if (event.kind === 'checkpointCommitted' && event.step === from) break;
    }
    await client.cancel(job);
    jobs.set(from, job);
  }
  const figures = FROM.map((from) => ({ from, firstStepMs: [] as number[], samplesRead: [] as number[] }));
  for (let one = 0; one < options.repetitions; one++) {
    for (const { from, firstStepMs, samplesRead } of figures) {
      await untilIdle(client);
      const began = performance.now();
      const resumed = await client.resume({ operationId: nanoid(), job: jobs.get(from) ?? '', from });
      for await (const event of client.watch(resumed, 1, true)) {
        if (event.kind === 'stepCommitted') break;
        if (event.kind === 'jobFinished') throw new Error(event.reason);
      }
      firstStepMs.push(performance.now() - began);
      samplesRead.push(await samplesReadOf(client, resumed));
      await client.cancel(resumed);
    }
  }
  return figures;
}

async function samplesReadOf(client: JobsClient, job: string): Promise<number> {
  for (;;) {
    for await (const { text } of client.logs(job, false)) {
      const found = /^read (\d+) samples/.exec(text);
      if (found !== null) return Number(found[1]);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    ended.throwIfAborted();
  }
}

async function untilIdle(client: JobsClient): Promise<void> {
  while (!(await client.nodes()).every(({ state }) => state === 'idle')) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    ended.throwIfAborted();
  }
}

function listed(speeds: readonly number[]): string {
  return `${medianOf(speeds).toFixed(0)} MiB/s (${speeds.map((one) => one.toFixed(0)).join(', ')})`;
}

function printSaves(figures: SaveFigures): boolean {
  const {
    stateBytes,
    medianStepMs,
    longestStepMs,
    saveMs,
    writeMs,
    ddSpeeds,
    ddAloneSpeeds,
    copyMs: oneCopyMs,
  } = figures;
  const limitMs = 1.5 * medianStepMs + oneCopyMs;
  const longest = Math.max(...longestStepMs);
  const speed = (ms: readonly number[]) => stateBytes / MIB / (medianOf(ms) / 1000);
  const dd = medianOf(ddSpeeds);
  const table = new Table({ head: ['a save of', `${Math.round(stateBytes / 1e6)} MB, ${options.workers} workers`] });
  table.push(
    ['median step without a save', `${medianStepMs.toFixed(0)} ms`],
    ['one memory copy of the state', `${oneCopyMs.toFixed(0)} ms`],
    ['longest step during a save', `${longest.toFixed(0)} ms (limit 1.5 x median + copy: ${limitMs.toFixed(0)} ms)`],
    ['dd with fsync, while the job trains', listed(ddSpeeds)],
    ['dd with fsync, when nothing else runs', listed(ddAloneSpeeds)],
    ['writing the shards', `${speed(writeMs).toFixed(0)} MiB/s, ${((100 * speed(writeMs)) / dd).toFixed(0)}% of dd`],
    [
      'the whole save, verified and recorded',
      `${speed(saveMs).toFixed(0)} MiB/s, ${((100 * speed(saveMs)) / dd).toFixed(0)}% of dd`,
    ],
  );
  say(table.toString());
  return longest < limitMs && speed(writeMs) >= dd / 2;
}

function printResumes(figures: readonly ResumeFigures[]): boolean {
  const table = new Table({ head: ['resumed from', 'first step after', 'samples read by one worker'] });
  for (const { from, firstStepMs, samplesRead } of figures) {
    const place = `step ${from} of ${LONG_STEPS} (${from / 10}% of a million samples)`;
    table.push([place, `${medianOf(firstStepMs).toFixed(0)} ms`, String(Math.max(...samplesRead))]);
  }
  say(table.toString());
  const [early, late] = figures;
  const most = Math.ceil(1000 / options.workers);
  return (
    figures.every(({ samplesRead }) => Math.max(...samplesRead) <= most) && early !== undefined && late !== undefined
  );
}

const cluster = new LocalCluster({
  folder: join(folder, 'cluster'),
  workers: options.workers,
  coordinators: 1,
  repository,
  python: chosenPython(),
  environment: process.env,
});
try {
  mkdirSync(join(folder, 'checkpoints'));
  await cluster.start(ended);
  const client = new JobsClient({ servers: cluster.servers, signal: ended });
  say(`${cpus().length} cores; a large state`);
  const saves = await measureSaves(client);
  const cheap = printSaves(saves);
  const resumes = await measureResumes(client);
  const constant = printResumes(resumes);
  client.close();
  const report = JSON.stringify({ cores: cpus().length, workers: options.workers, saves, resumes });
  say(report);
  process.exitCode = cheap && constant ? 0 : 1;
} finally {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
}
