/** The folder of a finished model: model.safetensors, which the engine writes, and model.json, which says what it is. */
import { mkdirSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { jobFileOf } from '../../shared/job_spec.js';
import type { ModelDescription } from '../core/command.js';

export function createModelFolder(path: string): void {
  mkdirSync(path, { recursive: true });
}

/** Written under another name, synced and renamed, so that nobody can see half of it. */
export async function describeModel(path: string, model: ModelDescription): Promise<void> {
  const { job, spec, steps, loss, weightsDigest, datasetDigest, datasetLength, parameters, metrics, torch, file } =
    model;
  const text = JSON.stringify(
    {
      job,
      spec: jobFileOf(spec),
      steps,
      loss,
      weights_digest: weightsDigest,
      dataset: { digest: datasetDigest, length: datasetLength },
      parameters,
      metrics,
      torch,
      file: { name: 'model.safetensors', ...file },
    },
    null,
    2,
  );
  const temporary = join(path, `.model.json.${process.pid}`);
  const handle = await open(temporary, 'w');
  try {
    await handle.writeFile(`${text}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, join(path, 'model.json'));
  const folder = await open(path, 'r');
  await folder.sync().finally(() => folder.close());
}
