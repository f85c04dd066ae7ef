/** The folder of a finished model: model.safetensors, which the engine writes, and model.json, which says what it is. */
import { createHash } from 'node:crypto';
import { constants, mkdirSync } from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { jobFileOf } from '../../shared/job_spec.js';
import type { ModelDescription } from '../core/command.js';

export function createModelFolder(path: string): void {
  mkdirSync(path, { recursive: true });
}

const FILE = 'model.safetensors';
const PIECE_BYTES = 1024 * 1024;

/**
 * Copies the model from the folder that the engine could write to. The file there is the user's code's: what is copied is what the
 * engine named by its hash, or nothing.
 */
export async function takeModel(from: string, path: string, sha256: string): Promise<void> {
  const temporary = join(path, `.${FILE}.${process.pid}`);
  const source = await open(join(from, FILE), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (!(await source.stat()).isFile()) throw new Error('what the engine wrote is no file');
    const target = await open(temporary, 'w');
    const hash = createHash('sha256');
    try {
      for await (const piece of source.createReadStream({ highWaterMark: PIECE_BYTES, autoClose: false })) {
        hash.update(piece);
        await target.writeFile(piece);
      }
      await target.sync();
    } finally {
      await target.close();
    }
    if (hash.digest('hex') !== sha256) throw new Error('the model was changed after the engine wrote it');
    await rename(temporary, join(path, FILE));
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  } finally {
    await source.close();
  }
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
      file: { name: FILE, ...file },
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
