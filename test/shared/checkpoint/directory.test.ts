import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Directory } from '../../../shared/checkpoint/directory.js';
import { DamagedCheckpoint } from '../../../shared/checkpoint/errors.js';
import { realFiles } from '../../../shared/checkpoint/file_operations.js';
import { listCheckpoints } from '../../../shared/checkpoint/list.js';
import { openStorage } from '../../../shared/checkpoint/open_storage.js';
import { verifyCheckpoint, verifyIn } from '../../../shared/checkpoint/verify.js';
import { StateMemory } from '../../worker/checkpoint/saving.js';
import { imageOf, SOME_TENSORS } from './images.js';
import { failingFiles } from './interposed_files.js';

const HOUR_MS = 3_600_000;
const state = new StateMemory(imageOf(SOME_TENSORS, 1));
const otherState = new StateMemory(imageOf(SOME_TENSORS, 2));
afterAll(() => {
  state.close();
  otherState.close();
});

let folder: string;
let storage: Directory;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-directory-'));
  storage = new Directory(folder, realFiles);
});
afterEach(() => rmSync(folder, { recursive: true }));

const SAVE = { step: 7, save: 'one', shards: 2 };

describe('publishing into a folder', () => {
  it('makes the folder, and those above it', async () => {
    const deep = new Directory(`${folder}/a/b/c`, realFiles);
    const saved = await state.save(deep, SAVE);
    expect(saved.path).toBe(`${folder}/a/b/c/step-000000007`);
    expect(readdirSync(saved.path).sort()).toEqual([
      'manifest.json',
      'shard-00000-of-00002.safetensors',
      'shard-00001-of-00002.safetensors',
    ]);
  });

  it('takes a whole checkpoint of the same state that is there, and leaves it as it is', async () => {
    const first = await state.save(storage, SAVE);
    const second = await state.save(storage, { ...SAVE, save: 'two', shards: 3 });
    expect(second.manifestSha256).toBe(first.manifestSha256);
    expect(second.manifest.shards).toHaveLength(2);
    expect(readdirSync(folder)).toEqual(['step-000000007']);
  });

  it('replaces a checkpoint of another state', async () => {
    await otherState.save(storage, SAVE);
    const second = await state.save(storage, { ...SAVE, save: 'two' });
    expect(second.manifest.stateSha256).toBe(state.image.sha256);
    expect(readdirSync(folder)).toEqual(['step-000000007']);
  });

  it.each(['manifest.json', 'shard-00001-of-00002.safetensors'])(
    'replaces a checkpoint with a damaged %s',
    async (file) => {
      const first = await state.save(storage, SAVE);
      writeFileSync(`${first.path}/${file}`, 'x');
      const second = await state.save(storage, { ...SAVE, save: 'two' });
      expect(await verifyIn(storage, 'step-000000007')).toMatchObject({ manifestSha256: second.manifestSha256 });
      expect(readdirSync(folder)).toEqual(['step-000000007']);
    },
  );

  it('moves what is no folder out of the way, and does not delete it', async () => {
    writeFileSync(`${folder}/step-000000007`, "somebody's file");
    await state.save(storage, SAVE);
    const aside = readdirSync(folder).find((name) => name.startsWith('.replaced-')) ?? '';
    expect(readFileSync(`${folder}/${aside}`, 'utf8')).toBe("somebody's file");
  });

  it('puts the old checkpoint back when the new one cannot be made durable', async () => {
    let failed = 0;
    for (let at = 0; ; at++) {
      const first = await otherState.save(storage, SAVE);
      const operations: string[] = [];
      const failing = new Directory(folder, failingFiles(realFiles, { at, code: 'EIO', operations }));
      const outcome = await state.save(failing, { ...SAVE, save: `try-${at}` }).catch((error: unknown) => error);
      const there = await verifyIn(storage, 'step-000000007');
      if (outcome instanceof Error) {
        failed++;
        expect(there.manifestSha256, operations[at]).toBe(first.manifestSha256);
      } else expect(there.manifest.stateSha256, operations[at]).toBe(state.image.sha256);
      if (operations[at] === undefined) break;
    }
    expect(failed).toBeGreaterThan(50);
  });

  it('is refused when a shard is not what was reported', async () => {
    const facts = await state.writeShards(storage, SAVE);
    const wrong = facts.map((one) => ({ ...one, sha256: '0'.repeat(64) }));
    await expect(state.publish(storage, SAVE, wrong)).rejects.toThrow(/shard-00000-of-00002.safetensors has sha256/);
    expect(await storage.list()).toEqual([]);
  });

  it('is refused when a worker has written the shard of another state', async () => {
    const facts = [...(await state.writeShards(storage, SAVE))];
    const [wrong] = await otherState.writeShards(storage, SAVE);
    if (wrong !== undefined) facts[0] = wrong;
    await expect(state.publish(storage, SAVE, facts)).rejects.toBeInstanceOf(DamagedCheckpoint);
    expect(await storage.list()).toEqual([]);
  });

  it('is refused when a shard is missing', async () => {
    const facts = await state.writeShards(storage, SAVE);
    rmSync(`${folder}/.saving-000000007-one/shard-00001-of-00002.safetensors`);
    await expect(state.publish(storage, SAVE, facts)).rejects.toThrow('gone or not all there');
    expect(await storage.list()).toEqual([]);
  });

  it.each(['', '../x', 'a/b', 'a.b', 'x'.repeat(65)])('is refused with the id %j of a save', async (save) => {
    await expect(state.save(storage, { ...SAVE, save })).rejects.toThrow('cannot be the id of a save');
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('abandoning a save', () => {
  it('removes what it has written, and files that are being written', async () => {
    await state.writeShards(storage, SAVE);
    writeFileSync(`${folder}/.saving-000000007-one.0123456789ab`, 'half');
    await state.writeShards(storage, { ...SAVE, save: 'one-more' });
    await storage.discard(SAVE);
    expect(readdirSync(folder)).toEqual(['.saving-000000007-one-more']);
    await storage.discard(SAVE);
  });

  it('leaves a published checkpoint as it is', async () => {
    await state.save(storage, SAVE);
    await storage.discard(SAVE);
    expect(await storage.list()).toEqual(['step-000000007']);
  });
});

describe('removing a checkpoint', () => {
  it('removes it, and is content when it is not there', async () => {
    await state.save(storage, SAVE);
    await storage.remove('step-000000007');
    expect(readdirSync(folder)).toEqual([]);
    await storage.remove('step-000000007');
    await new Directory(`${folder}/none`, realFiles).remove('step-000000007');
  });

  it.each(['checkpoints', '..', 'step-7', 'step-000000007.bak', '.saving-000000007-one'])(
    'refuses the name %s',
    async (name) => {
      mkdirSync(join(folder, 'checkpoints'));
      await expect(storage.remove(name)).rejects.toThrow('a checkpoint is called step-<9 digits>');
      expect(existsSync(folder)).toBe(true);
    },
  );

  it("never deletes what is not a checkpoint's, and says what is left", async () => {
    const { path } = await state.save(storage, SAVE);
    writeFileSync(`${path}/notes.txt`, 'mine');
    await expect(storage.remove('step-000000007')).rejects.toThrow("holds files that are not a checkpoint's");
    const [left = ''] = readdirSync(folder);
    expect(readdirSync(`${folder}/${left}`)).toEqual(['notes.txt']);
    expect(await storage.list()).toEqual([]);
  });

  it('follows no links', async () => {
    mkdirSync(`${folder}/elsewhere`);
    writeFileSync(`${folder}/elsewhere/manifest.json`, 'mine');
    symlinkSync(`${folder}/elsewhere`, `${folder}/step-000000008`);
    await expect(storage.remove('step-000000008')).rejects.toThrow('is not a folder');
    const { path } = await state.save(storage, SAVE);
    rmSync(`${path}/manifest.json`);
    symlinkSync(`${folder}/elsewhere/manifest.json`, `${path}/manifest.json`);
    await storage.remove('step-000000007');
    expect(readFileSync(`${folder}/elsewhere/manifest.json`, 'utf8')).toBe('mine');
  });
});

describe('left-overs of other saves', () => {
  const inAnHour = () => new Directory(folder, realFiles, () => Date.now() + HOUR_MS + 1000);

  it('stay for an hour, and are removed at the next publication after that', async () => {
    await state.writeShards(storage, { ...SAVE, save: 'dead' });
    writeFileSync(`${folder}/.saving-000000007-dead.0123456789ab`, 'half');
    mkdirSync(`${folder}/.removing-000000003-0123456789ab`);
    await storage.tidy(SAVE);
    expect(readdirSync(folder)).toHaveLength(3);
    await state.writeShards(storage, SAVE);
    await inAnHour().tidy(SAVE);
    expect(readdirSync(folder)).toEqual(['.saving-000000007-one']);
  });

  it('that were replaced go when the new checkpoint is there, and come back when it is not', async () => {
    await state.save(storage, SAVE);
    await state.save(storage, { ...SAVE, step: 8 });
    const { path } = await otherState.save(storage, { ...SAVE, step: 9 });
    const replaced = (step: number): string => `${folder}/.replaced-00000000${step}-0123456789ab`;
    execFileSync('mv', [path, replaced(7)]);
    execFileSync('mv', [`${folder}/step-000000008`, replaced(8)]);
    await inAnHour().tidy(SAVE);
    expect(readdirSync(folder).sort()).toEqual(['step-000000007', 'step-000000008']);
    expect(await verifyIn(storage, 'step-000000008')).toBeDefined();
  });

  it('never include what has another name, or is a link', async () => {
    const others = ['.saving-x', '.saving-000000007', 'step-000000007.bak', '.removing-000000001-é', 'notes'];
    for (const name of others) mkdirSync(`${folder}/${name}`);
    symlinkSync('/etc', `${folder}/.removing-000000001-0123456789ab`);
    await inAnHour().tidy(SAVE);
    expect(readdirSync(folder)).toHaveLength(others.length + 1);
  });
});

describe('listing', () => {
  it('gives the newest first, and nothing that is not named like a checkpoint or is no folder', async () => {
    for (const step of [7, 1_234_567_890, 100]) await state.save(storage, { ...SAVE, step });
    for (const name of ['step-7', 'step-0000000007', 'model', '.saving-000000009-x']) mkdirSync(`${folder}/${name}`);
    writeFileSync(`${folder}/step-000000011`, '');
    const listed = await listCheckpoints(folder);
    expect(listed.map(({ step }) => step)).toEqual([1_234_567_890, 100, 7]);
    expect(listed[0]?.path).toBe(`${folder}/step-1234567890`);
    await expect(verifyCheckpoint(listed[0]?.path ?? '')).resolves.toBeDefined();
  });

  it('of a folder that is not there gives nothing', async () => {
    expect(await listCheckpoints(`${folder}/none`)).toEqual([]);
  });
});

describe('a place for checkpoints', () => {
  it.each([
    { place: 'checkpoints', problem: 'must be an absolute path' },
    { place: '/a\0b', problem: 'must be an absolute path' },
    { place: 's3://bucket', problem: 'needs an endpoint' },
    { place: 's3://', problem: 'must be s3://bucket/prefix' },
    { place: 's3://bucket/../x', problem: 'must be s3://bucket/prefix' },
    { place: 's3://bucket//x', problem: 'must be s3://bucket/prefix' },
    { place: 's3://Bucket/x', problem: 'must be s3://bucket/prefix' },
  ])('called $place is refused', ({ place, problem }) => {
    expect(() => openStorage(place)).toThrow(problem);
  });
});
