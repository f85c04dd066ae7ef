/**
 * `npm run bench:overhead`: what Lockstep adds to a step of examples/char_gpt with one worker (control, copies, all-reduce), measured
 * against a plain PyTorch loop over the same microbatches. The two run in turn, several times; medians are compared.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import Table from 'cli-table3';
import { nanoid } from 'nanoid';
import { z } from 'zod';
import { JobsClient } from '../cli/jobs_client.js';
import { LocalCluster } from '../cli/local_cluster.js';
import { type JobFileOnDisk, readJobFile } from '../shared/job_file.js';
import { splitTask } from '../shared/job_spec.js';
import { medianOf } from '../shared/median.js';
import { planStep } from '../shared/plan.js';
import type { JobEvent } from '../shared/wire/jobs.js';
import { chosenPython } from './python.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const ROUNDS = 5;
const STEPS = 45;
/** The first steps fill caches and map memory, on both sides. */
const WARM_UP = 5;
const RUN_MS = 300_000;

type StepCommitted = Extract<JobEvent, { kind: 'stepCommitted' }>;

/** Milliseconds of a median step of one run. */
interface LockstepStep {
  readonly stepMs: number;
  /** Of the step: reading the samples, in the engine. */
  readonly dataMs: number;
  /** Forward and backward, and the sum of the gradients, in the engine. */
  readonly computeMs: number;
  /** From the last partial to the own segments' sums, and on to the whole reduced gradient. */
  readonly reduceMs: number;
  readonly gatherMs: number;
  /** The optimizer, in the engine. */
  readonly applyMs: number;
}

/** The median distance between the times at which the steps after the warm-up were done. */
function medianStep(timesMs: readonly number[]): number {
  if (timesMs.length !== STEPS) throw new Error(`${timesMs.length} steps were done instead of ${STEPS}`);
  const measured = timesMs.slice(WARM_UP);
  return medianOf(measured.slice(1).map((time, index) => time - (measured[index] ?? time)));
}

async function lockstepRun(cluster: LocalCluster, job: JobFileOnDisk, output: string): Promise<LockstepStep> {
  const signal = AbortSignal.timeout(RUN_MS);
  const client = new JobsClient({ servers: cluster.servers, signal });
  try {
    const spec = { ...job.spec, steps: STEPS, epochs: undefined, evaluateEvery: 0 };
    const id = await client.submit({
      operationId: nanoid(),
      spec,
      bundle: job.bundle,
      output,
      checkpoints: `${output}-checkpoints`,
    });
    const steps: StepCommitted[] = [];
    const timesMs: number[] = [];
    for await (const event of client.watch(id, 1, true)) {
      if (event.kind === 'jobFinished' && event.state !== 'finished')
        throw new Error(`the job failed: ${event.reason}`);
      if (event.kind !== 'stepCommitted') continue;
      timesMs.push(performance.now());
      steps.push(event);
    }
    const median = (of: (step: StepCommitted) => number): number => medianOf(steps.slice(WARM_UP).map(of));
    return {
      stepMs: medianStep(timesMs),
      dataMs: median((step) => step.dataMs ?? 0),
      computeMs: median((step) => step.computeMs),
      reduceMs: median((step) => step.reduceMs),
      gatherMs: median((step) => step.gatherMs ?? 0),
      applyMs: median((step) => step.applyMs),
    };
  } finally {
    client.close();
  }
}

/** Writes what plain_steps.py has to know: the same samples in the same microbatches. */
async function writePlan(path: string, { spec, bundle }: JobFileOnDisk, datasetLength: number): Promise<void> {
  const { file, className } = splitTask(spec.task);
  const plan = {
    file: join(bundle, file),
    class: className,
    params: JSON.parse(spec.paramsJson),
    seed: spec.seed,
    clip_grad_norm: spec.clipGradNorm ?? null,
    steps: Array.from({ length: STEPS }, (_, step) => planStep({ ...spec, datasetLength }, step).samples),
  };
  await writeFile(path, JSON.stringify(plan));
}

/** Milliseconds of a median step. */
async function plainRun(plan: string): Promise<number> {
  const { stdout } = await promisify(execFile)(
    chosenPython(),
    [join(repository, 'bench/peers/plain_steps.py'), plan],
    // As for an engine; the BLAS reads these before PyTorch does.
    { timeout: RUN_MS, env: { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1', MKL_NUM_THREADS: '1' } },
  );
  const seconds = [...stdout.matchAll(/^step \d+ ([\d.]+)$/gm)].map(([, time]) => Number(time));
  return medianStep(seconds.map((time) => time * 1000));
}

interface Overhead {
  readonly plain: readonly number[];
  readonly lockstep: readonly LockstepStep[];
}

async function measure(folder: string): Promise<Overhead> {
  const job = readJobFile(join(repository, 'examples/char_gpt/job.yaml'));
  const plan = join(folder, 'plan.json');
  const plain: number[] = [];
  const lockstep: LockstepStep[] = [];
  const cluster = new LocalCluster({
    folder: join(folder, 'cluster'),
    workers: 1,
    coordinators: 1,
    repository,
    python: chosenPython(),
    environment: process.env,
  });
  try {
    await cluster.start(AbortSignal.timeout(RUN_MS));
    for (let round = 1; round <= ROUNDS; round++) {
      const output = join(folder, `model-${round}`);
      lockstep.push(await lockstepRun(cluster, job, output));
      if (round === 1) await writePlan(plan, job, await datasetLengthOf(output));
      plain.push(await plainRun(plan));
    }
  } finally {
    await cluster.stop();
  }
  return { plain, lockstep };
}

async function datasetLengthOf(model: string): Promise<number> {
  const description = z.object({ dataset: z.object({ length: z.number() }) });
  return description.parse(JSON.parse(await readFile(join(model, 'model.json'), 'utf8'))).dataset.length;
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}

function report({ plain, lockstep }: Overhead): void {
  const plainMs = medianOf(plain);
  const of = (part: (step: LockstepStep) => number): number => medianOf(lockstep.map(part));
  const stepMs = of((step) => step.stepMs);
  const restMs = of(
    (step) => step.stepMs - step.dataMs - step.computeMs - step.reduceMs - step.gatherMs - step.applyMs,
  );
  const result = {
    plain_step_ms: rounded(plainMs),
    lockstep_step_ms: rounded(stepMs),
    overhead_percent: rounded((stepMs / plainMs - 1) * 100),
    data_ms: rounded(of((step) => step.dataMs)),
    compute_ms: rounded(of((step) => step.computeMs)),
    reduce_ms: rounded(of((step) => step.reduceMs)),
    gather_ms: rounded(of((step) => step.gatherMs)),
    apply_ms: rounded(of((step) => step.applyMs)),
    rest_ms: rounded(restMs),
  };
  const table = new Table({ head: ['', 'ms a step'], colAligns: ['left', 'right'] });
  table.push(
    ['plain PyTorch', result.plain_step_ms.toFixed(2)],
    ['Lockstep, one worker', result.lockstep_step_ms.toFixed(2)],
    ['  data: samples', result.data_ms.toFixed(2)],
    ['  compute: forward, backward, sum', result.compute_ms.toFixed(2)],
    ['  reduce', result.reduce_ms.toFixed(2)],
    ['  gather', result.gather_ms.toFixed(2)],
    ['  apply: clip, optimizer', result.apply_ms.toFixed(2)],
    ['  rest: control', result.rest_ms.toFixed(2)],
    ['overhead', `${result.overhead_percent.toFixed(1)} %`],
  );
  process.stdout.write(
    `examples/char_gpt, ${STEPS} steps, the first ${WARM_UP} not counted; ${ROUNDS} runs each, in turn; ${cpus().length} cores. ` +
      `Medians.\n${table.toString()}\n`,
  );
  const runs = { plain: plain.map(rounded), lockstep: lockstep.map((step) => rounded(step.stepMs)) };
  process.stdout.write(`${JSON.stringify({ event: 'overhead_benchmark', cores: cpus().length, ...result, runs })}\n`);
}

const folder = await mkdtemp(join(tmpdir(), 'lockstep-overhead-'));
try {
  report(await measure(folder));
} finally {
  await rm(folder, { recursive: true, force: true });
}
