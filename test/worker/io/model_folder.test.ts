/** The folder of a finished model, on a disk that gets full. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ensureBuilt, repository } from '../built_threads.js';

/** More than is copied at a time. */
const MODEL = Buffer.alloc(2_500_000, 7);
const sha256 = createHash('sha256').update(MODEL).digest('hex');
let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockstep-model-'));
  for (const folder of ['from', 'to']) mkdirSync(join(root, folder));
  writeFileSync(join(root, 'from', 'model.safetensors'), MODEL);
});
afterEach(() => rmSync(root, { recursive: true }));

/** Takes the model in a process whose files can have so many blocks of 512 bytes: a write that goes beyond that is cut short. */
async function take(blocks: number): Promise<string> {
  await ensureBuilt();
  const code = `
    import { takeModel } from '${repository}dist/worker/io/model_folder.js';
    const outcome = takeModel('${root}/from', '${root}/to', '${sha256}');
    console.log(await outcome.then(() => 'taken', (error) => error.code));`;
  const limited = `trap '' XFSZ; ulimit -f ${blocks}; exec node --input-type=module -e "$0"`;
  return execFileSync('sh', ['-c', limited, code], { encoding: 'utf8' }).trim();
}

it('a model is taken as it is', async () => {
  expect(await take(5000)).toBe('taken');
  expect(readFileSync(join(root, 'to', 'model.safetensors')).equals(MODEL)).toBe(true);
});

it('a model that does not fit is not taken, be it the last write that is cut short', async () => {
  expect(await take(4880)).toBe('EFBIG');
  expect(readdirSync(join(root, 'to'))).toEqual([]);
});
