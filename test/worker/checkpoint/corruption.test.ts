/** FAULTS.md row 24: whatever happens to the files of a checkpoint, verify and restore find it. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Directory } from '../../../shared/checkpoint/directory.js';
import { DamagedCheckpoint } from '../../../shared/checkpoint/errors.js';
import { realFiles } from '../../../shared/checkpoint/file_operations.js';
import { manifestText, parseManifest } from '../../../shared/checkpoint/manifest_text.js';
import { type VerifiedCheckpoint, verifyIn } from '../../../shared/checkpoint/verify.js';
import { imageOf, randomFrom, SOME_TENSORS } from '../../shared/checkpoint/images.js';
import { restored, StateMemory } from './saving.js';

const SHARDS = 4;
const CORRUPTIONS = 1000;
const SEED = 20_261_124;
const MANIFEST = 'manifest.json';
const files = [MANIFEST, ...Array.from({ length: SHARDS }, (_, shard) => `shard-0000${shard}-of-00004.safetensors`)];

let folder: string;
let checkpoint: VerifiedCheckpoint;
let other: VerifiedCheckpoint;
let storage: Directory;
const pristine = new Map<string, Buffer>();
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-corruption-'));
  storage = new Directory(folder, realFiles);
  const save = async (seed: number, step: number): Promise<VerifiedCheckpoint> => {
    const state = new StateMemory(imageOf(SOME_TENSORS, seed));
    const saved = await state.save(storage, { step, save: `save-${seed}`, shards: SHARDS });
    state.close();
    return saved;
  };
  checkpoint = await save(1, 100);
  other = await save(2, 101);
  for (const file of files) pristine.set(file, readFileSync(join(checkpoint.path, file)));
});
afterAll(() => rmSync(folder, { recursive: true }));

const inCheckpoint = (file: string): string => join(checkpoint.path, file);
const inOther = (file: string): string => join(other.path, file);

function repair(): void {
  for (const [file, bytes] of pristine) {
    rmSync(inCheckpoint(file), { force: true, recursive: true });
    writeFileSync(inCheckpoint(file), bytes);
  }
}

/** Whole numbers below `limit`. */
type Draw = (limit: number) => number;

function flipBit(file: string, draw: Draw): void {
  const bytes = Buffer.from(pristine.get(file) ?? '');
  const at = draw(bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << draw(8));
  writeFileSync(inCheckpoint(file), bytes);
}

/** Two different files of shards. */
function twoShards(draw: Draw): [string, string] {
  const first = draw(SHARDS);
  const second = (first + 1 + draw(SHARDS - 1)) % SHARDS;
  return [files[1 + first] ?? '', files[1 + second] ?? ''];
}

const corruptions: Readonly<Record<string, (file: string, draw: Draw) => void>> = {
  'cut short': (file, draw) => truncateSync(inCheckpoint(file), draw(pristine.get(file)?.length ?? 0)),
  'made longer': (file, draw) =>
    appendFileSync(inCheckpoint(file), Buffer.alloc(1 + draw(9), [0, 0x20, 0x0a][draw(3)])),
  'one bit flipped': flipBit,
  'a piece overwritten': (file, draw) => {
    const bytes = Buffer.from(pristine.get(file) ?? '');
    const at = draw(bytes.length);
    bytes.fill(0xa5, at, Math.min(bytes.length, at + 1 + draw(512)));
    writeFileSync(inCheckpoint(file), bytes);
  },
  gone: (file) => rmSync(inCheckpoint(file)),
  'swapped with another shard': (_file, draw) => {
    const [first, second] = twoShards(draw);
    renameSync(inCheckpoint(first), inCheckpoint('aside'));
    renameSync(inCheckpoint(second), inCheckpoint(first));
    renameSync(inCheckpoint('aside'), inCheckpoint(second));
  },
  'a copy of another shard': (_file, draw) => {
    const [first, second] = twoShards(draw);
    copyFileSync(inCheckpoint(first), inCheckpoint(second));
  },
  "another checkpoint's": (file) => copyFileSync(inOther(file), inCheckpoint(file)),
  'a link': (file) => {
    rmSync(inCheckpoint(file));
    symlinkSync(inOther(file), inCheckpoint(file));
  },
};

async function expectFound(what: string): Promise<void> {
  const { manifestSha256 } = checkpoint;
  const name = 'step-000000100';
  await expect(verifyIn(storage, name), `verify: ${what}`).rejects.toBeInstanceOf(DamagedCheckpoint);
  const failure = await restored(storage, { name, manifestSha256 }).catch((error: unknown) => error);
  expect(failure, `restore: ${what}`).toBeInstanceOf(DamagedCheckpoint);
  const message = failure instanceof Error ? failure.message : '';
  expect(message).toMatch(/^\/\S+\/(manifest\.json|shard-\d{5}-of-00004\.safetensors) /);
  expect(message).not.toContain('\n');
}

describe('a checkpoint whose files are not what was saved', () => {
  it(`is found in each of ${CORRUPTIONS} random corruptions, by verify and by restore`, async () => {
    const random = randomFrom(SEED);
    const draw: Draw = (limit) => Math.floor(random() * limit);
    const kinds = Object.entries(corruptions);
    for (let count = 0; count < CORRUPTIONS; count++) {
      const [kind, corrupt] = kinds[draw(kinds.length)] ?? ['one bit flipped', flipBit];
      const file = files[draw(files.length)] ?? MANIFEST;
      corrupt(file, draw);
      await expectFound(`${kind}, ${file}, number ${count} of seed ${SEED}`);
      repair();
    }
    await expect(verifyIn(storage, 'step-000000100')).resolves.toBeDefined();
  });

  it.each(files)('is found when %s is a FIFO, which nobody waits for', async (file) => {
    rmSync(inCheckpoint(file));
    execFileSync('mkfifo', [inCheckpoint(file)]);
    await expectFound('a FIFO');
    repair();
  });

  it.each(files)('is found when %s is a device or a folder', async (file) => {
    rmSync(inCheckpoint(file));
    execFileSync('mkdir', [inCheckpoint(file)]);
    await expectFound('a folder');
    rmSync(inCheckpoint(file), { recursive: true });
    symlinkSync('/dev/zero', inCheckpoint(file));
    await expectFound('a device');
    repair();
  });

  it('is found with a safetensors header of 2^60 bytes, and with a manifest of 200 MiB', async () => {
    const shard = files[1] ?? '';
    const bytes = Buffer.from(pristine.get(shard) ?? '');
    bytes.writeBigUInt64LE(2n ** 60n);
    writeFileSync(inCheckpoint(shard), bytes);
    await expectFound('a header of 2^60 bytes');
    repair();
    truncateSync(inCheckpoint(MANIFEST), 200 * 2 ** 20);
    await expectFound('a large manifest');
    repair();
  });

  it('with a manifest that was rewritten with care only the recorded sha256 tells', async () => {
    const manifest = parseManifest(pristine.get(MANIFEST) ?? Buffer.alloc(0));
    const rewritten = manifestText({ ...manifest, description: { ...manifest.description, loss: 0.5 } });
    writeFileSync(inCheckpoint(MANIFEST), rewritten);
    const name = 'step-000000100';
    const verified = await verifyIn(storage, name);
    expect(verified.manifestSha256).toBe(createHash('sha256').update(rewritten).digest('hex'));
    const { manifestSha256 } = checkpoint;
    await expect(verifyIn(storage, name, { manifestSha256 })).rejects.toThrow('the one that was recorded');
    await expect(restored(storage, { name, manifestSha256 })).rejects.toThrow('the one that was recorded');
    repair();
  });

  it('is found when every shard is right and the state has another digest', async () => {
    const manifest = parseManifest(pristine.get(MANIFEST) ?? Buffer.alloc(0));
    const rewritten = manifestText({ ...manifest, stateSha256: '0'.repeat(64) });
    writeFileSync(inCheckpoint(MANIFEST), rewritten);
    const manifestSha256 = createHash('sha256').update(rewritten).digest('hex');
    await expect(verifyIn(storage, 'step-000000100')).rejects.toThrow('says the state has sha256');
    await expect(restored(storage, { name: 'step-000000100', manifestSha256 })).rejects.toThrow('says the state');
    repair();
  });

  it('is found when all digests are right and a shard gives its tensors other names than the state', async () => {
    const file = files.find((name) => pristine.get(name)?.includes('optimizer.scalar') && name !== MANIFEST) ?? '';
    const shard = Buffer.from(pristine.get(file) ?? '');
    shard.write('0', shard.indexOf('optimizer.scalar'));
    writeFileSync(inCheckpoint(file), shard);
    const manifest = parseManifest(pristine.get(MANIFEST) ?? Buffer.alloc(0));
    const sha256 = createHash('sha256').update(shard).digest('hex');
    const shards = manifest.shards.map((one) => (one.file === file ? { ...one, sha256 } : one));
    writeFileSync(inCheckpoint(MANIFEST), manifestText({ ...manifest, shards }));
    await expect(verifyIn(storage, 'step-000000100')).rejects.toThrow('safetensors header that is not the manifest');
    repair();
  });

  it('is found under the name of another step', async () => {
    renameSync(checkpoint.path, `${folder}/step-000000102`);
    await expect(verifyIn(storage, 'step-000000102')).rejects.toThrow('is of step 100, but lies in step-000000102');
    renameSync(`${folder}/step-000000102`, checkpoint.path);
    execFileSync('cp', ['-r', checkpoint.path, `${folder}/my-copy`]);
    await expect(verifyIn(storage, 'my-copy')).resolves.toBeDefined();
  });

  it('is a failure of the storage, not damage, when the whole folder is gone', async () => {
    const gone = new Directory(`${folder}/not-mounted`, realFiles);
    const failure = await verifyIn(gone, 'step-000000100').catch((error: unknown) => error);
    expect(failure).not.toBeInstanceOf(DamagedCheckpoint);
    expect(failure).toMatchObject({ message: expect.stringContaining('is its disk mounted?') });
  });
});
