/** The example char_gpt, trained for real: the same weights whoever computed them, and those of a plain PyTorch loop. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readJobFile } from '../../shared/job_file.js';
import { planStep } from '../../shared/plan.js';
import type { JobSpec } from '../../shared/wire/jobs.js';
import { findPython } from '../../worker/io/python.js';
import { exampleJob, type Lockstep, newFolder, nodesOf, repository, TEST_MS } from './run_lockstep.js';
import { readSafetensors } from './safetensors_file.js';
import { type Trained, train } from './train.js';

const job = exampleJob('char_gpt');
const STEPS = 15;
const RELATIVE = 1e-5;

const modelJson = z.object({
  job: z.string().min(1),
  spec: z.looseObject({ name: z.literal('char-gpt'), steps: z.literal(STEPS), seed: z.literal(1234) }),
  steps: z.literal(STEPS),
  loss: z.number(),
  weights_digest: z.string(),
  dataset: z.object({ digest: z.string().regex(/^[0-9a-f]{64}$/), length: z.number() }),
  parameters: z.number(),
  metrics: z.object({ held_out_loss: z.number(), bigram_loss: z.number() }),
  torch: z.string().min(1),
  file: z.object({ name: z.literal('model.safetensors'), bytes: z.number(), sha256: z.string() }),
});

/** Everything of the result that must not depend on who computed it. */
function outcome({ finished, steps, fileSha256 }: Trained) {
  const { state, loss, weights_digest, metrics } = finished;
  return { state, loss, weights_digest, metrics, fileSha256, steps: steps.map((one) => [one.step, one.loss]) };
}

let alone: Trained;
beforeAll(async () => {
  alone = await train({ job, workers: 1, steps: STEPS });
}, TEST_MS);

describe('char_gpt with one worker', () => {
  it('finishes, commits every step once, and leaves no process, port or shared memory', () => {
    expect(alone.finished).toMatchObject({ state: 'finished', steps: STEPS });
    expect(alone.steps.map((one) => one.step)).toEqual(Array.from({ length: STEPS }, (_, step) => step));
    expect(alone.left).toEqual([]);
  });

  it(
    'has at every step the loss of a plain PyTorch loop over the same samples',
    async () => {
      const losses = await plainLosses(modelJson.parse(alone.description).dataset.length);
      expect(losses).toHaveLength(STEPS);
      const apart = alone.steps.map((one, step) => Math.abs(one.loss / (losses[step] ?? Number.NaN) - 1));
      expect(Math.max(...apart)).toBeLessThan(RELATIVE);
    },
    TEST_MS,
  );

  it('leaves a model file whose parameters in name order have the weights digest that was told', () => {
    const { tensors, metadata } = readSafetensors(alone.file);
    // The only buffer of this model, the mask, is not persistent: every tensor of the file is a parameter.
    const sha256 = createHash('sha256');
    for (const name of [...tensors.keys()].sort()) sha256.update(tensors.get(name)?.bytes ?? '');
    expect(sha256.digest('hex')).toBe(alone.finished.weights_digest);
    expect(metadata['weights_digest']).toBe(alone.finished.weights_digest);
    for (const [name, { dtype, shape, bytes }] of tensors) {
      expect(dtype).toBe('F32');
      expect(bytes, name).toHaveLength(shape.reduce((product, size) => product * size, 4));
    }
  });

  it('leaves a model.json that says how the model came about', () => {
    const description = modelJson.parse(alone.description);
    const { tensors } = readSafetensors(alone.file);
    const elements = [...tensors.values()].reduce((sum, { bytes }) => sum + bytes.length / 4, 0);
    expect(description).toMatchObject({
      weights_digest: alone.finished.weights_digest,
      loss: alone.steps.at(-1)?.loss,
      metrics: alone.finished.metrics,
      parameters: elements,
      file: { bytes: alone.file.length, sha256: alone.fileSha256 },
    });
  });
});

// 12 microbatches: 2, 3 and 4 workers share them evenly, 5 do not.
it.each([2, 3, 4, 5])(
  'char_gpt with %i workers ends with the very weights of one worker',
  async (workers) => {
    const trained = await train({ job, workers, steps: STEPS });
    expect(outcome(trained)).toEqual(outcome(alone));
    expect(trained.events.filter((one) => one.event === 'worker_joined')).toHaveLength(workers);
    expect(trained.left).toEqual([]);
  },
  TEST_MS,
);

it(
  'char_gpt ends with the same weights when a daemon and then an engine are killed on the way',
  async () => {
    const trained = await train({ job, workers: 3, steps: STEPS, during: killDaemonThenEngine });
    expect(outcome(trained)).toEqual(outcome(alone));
    // A busy machine may lose others for a moment.
    expect(lostWorkers(trained)).toEqual(expect.arrayContaining(['w2', 'w3']));
    expect(trained.left).toEqual([]);
  },
  TEST_MS,
);

async function killDaemonThenEngine(lockstep: Lockstep): Promise<void> {
  const { api, pids } = await lockstep.ready();
  await lockstep.step(1);
  const engine = (await nodesOf(api)).find((one) => one.worker === 'w3')?.engine_pid ?? 0;
  expect(engine).toBeGreaterThan(1);
  process.kill(pids.workers['w2'] ?? 0, 'SIGKILL');
  await lockstep.event('worker_lost');
  process.kill(engine, 'SIGKILL');
}

function lostWorkers({ events }: Trained): readonly unknown[] {
  return events.filter((one) => one.event === 'worker_lost').map((one) => one['worker']);
}

/** The losses of test/system/plain_loop.py, told the task and the samples of each step. */
async function plainLosses(datasetLength: number): Promise<readonly number[]> {
  const { spec, bundle } = readJobFile(job);
  const folder = newFolder();
  try {
    const plan = join(folder, 'plan.json');
    writeFileSync(plan, JSON.stringify(plainPlan(spec, bundle, datasetLength)));
    const script = fileURLToPath(new URL('plain_loop.py', import.meta.url));
    const { stdout } = await promisify(execFile)(await enginePython(), [script, plan], { timeout: TEST_MS });
    return z.object({ losses: z.number().array() }).parse(JSON.parse(stdout)).losses;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function plainPlan(spec: JobSpec, bundle: string, datasetLength: number) {
  const [file = '', className = ''] = spec.task.split(':');
  return {
    file: join(bundle, file),
    class: className,
    params: JSON.parse(spec.paramsJson),
    seed: spec.seed,
    clip_grad_norm: spec.clipGradNorm ?? null,
    steps: Array.from({ length: STEPS }, (_, step) => planStep({ ...spec, datasetLength }, step).samples.flat()),
  };
}

function enginePython(): Promise<string> {
  return findPython(process.env['LOCKSTEP_PYTHON'] ?? readFileSync(join(repository, 'dist/.python'), 'utf8').trim());
}
