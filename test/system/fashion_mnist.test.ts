/** The example fashion_mnist on fewer samples: dropout, batch norm, and epochs that end in a ragged step. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { exampleTask, jobFolder, ownTask } from './job_folder.js';
import { newFolder, TEST_MS } from './run_lockstep.js';
import { readSafetensors } from './safetensors_file.js';
import { type Trained, train } from './train.js';

// The fifth step of an epoch has 5 samples for 12 microbatches, so that 7 of those are empty.
const SAMPLES = 965;
const BATCH = 240;
const EPOCHS = 2;
const COUNTS = [240, 240, 240, 240, 5];

const folder = newFolder();
afterAll(() => rmSync(folder, { recursive: true }));
const writeJob = jobFolder(join(folder, 'job'), [exampleTask('fashion_mnist'), ownTask('few_clothes')]);
const job = writeJob({
  name: 'few-clothes',
  task: 'few_clothes.py:FewClothes',
  seed: 42,
  epochs: EPOCHS,
  batch: BATCH,
  microbatches: 12,
  data: { tail: 'keep' },
  params: { samples: SAMPLES, width: 8, dropout: 0.25, lr: 0.1, decay_steps: 500 },
});

function buffersOf(trained: Trained): ReadonlyMap<string, string> {
  const buffers = [...readSafetensors(trained.file).tensors].filter(([name]) => /running_|num_batches/.test(name));
  return new Map(buffers.map(([name, { bytes }]) => [name, bytes.toString('hex')]));
}

let alone: Trained;
beforeAll(async () => {
  alone = await train({ job, workers: 1 });
}, TEST_MS);

it('fashion_mnist with one worker ends each epoch with the ragged step that its samples leave', () => {
  expect(alone.steps.map(({ epoch, samples }) => [epoch, samples])).toEqual(
    [0, 1].flatMap((epoch) => COUNTS.map((count) => [epoch, count])),
  );
  expect(buffersOf(alone).size).toBe(6);
  expect(alone.left).toEqual([]);
});

it.each([2, 3])(
  'fashion_mnist with %i workers ends with the weights and batch-norm buffers of one worker',
  async (workers) => {
    const trained = await train({ job, workers });
    expect(trained.finished.weights_digest).toBe(alone.finished.weights_digest);
    expect(buffersOf(trained)).toEqual(buffersOf(alone));
    expect(trained.fileSha256).toBe(alone.fileSha256);
    expect(trained.steps.map(({ loss }) => loss)).toEqual(alone.steps.map(({ loss }) => loss));
    expect(trained.left).toEqual([]);
  },
  TEST_MS,
);
