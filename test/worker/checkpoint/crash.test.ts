/** FAULTS.md row 22: the process killed, or the power lost, at every file operation of a save. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Directory } from '../../../shared/checkpoint/directory.js';
import { type FileOperations, realFiles } from '../../../shared/checkpoint/file_operations.js';
import { checkpointName } from '../../../shared/checkpoint/names.js';
import { type VerifiedCheckpoint, verifyIn } from '../../../shared/checkpoint/verify.js';
import { imageOf, randomFrom, SOME_TENSORS } from '../../shared/checkpoint/images.js';
import { MortalFiles } from '../../shared/checkpoint/interposed_files.js';
import { LOSSES, MemoryDisk, randomLoss } from '../../shared/checkpoint/memory_disk.js';
import { restored, StateMemory } from './saving.js';

const FOLDER = '/disk/checkpoints/job-1';
const RANDOM_LOSSES = 6;
const older = new StateMemory(imageOf(SOME_TENSORS, 1));
const newer = new StateMemory(imageOf(SOME_TENSORS, 2));
afterAll(() => {
  older.close();
  newer.close();
});

interface Death {
  readonly livesFor: number;
  readonly halfOfTheNext: boolean;
}

/** Every moment in the life of a process that carries out `act`: undefined comes last, when it lived to the end. */
async function* deaths(
  prepare: () => Promise<FileOperations>,
  act: (storage: FileOperations) => Promise<unknown>,
): AsyncGenerator<{ readonly files: FileOperations; readonly died: string | undefined; readonly operations: number }> {
  for (let livesFor = 0; ; livesFor++) {
    for (const halfOfTheNext of [false, true]) {
      const files = await prepare();
      const mortal = new MortalFiles(files, { livesFor, halfOfTheNext } satisfies Death);
      const end = await Promise.race([act(mortal.files), mortal.death]);
      await mortal.files.closeAll();
      const last = mortal.operations.at(-1);
      const died = end === 'died' ? `${halfOfTheNext ? 'half-way through' : 'before'} ${last}` : undefined;
      yield { files, died, operations: mortal.operations.length };
      if (died === undefined) return;
    }
  }
}

/** What is there is whole, and is what was saved under that name. */
async function expectOldOrNew(files: FileOperations, folder: string, first: VerifiedCheckpoint): Promise<void> {
  const storage = new Directory(folder, files);
  const names = await storage.list();
  expect(names).toContain('step-000000100');
  for (const name of names) {
    const { manifest, manifestSha256 } = await verifyIn(storage, name);
    const expected = name === 'step-000000100' ? older.image : newer.image;
    expect(manifest.stateSha256).toBe(expected.sha256);
    expect((await restored(storage, { name, manifestSha256 })).memory.equals(expected.bytes)).toBe(true);
  }
  expect((await verifyIn(storage, 'step-000000100')).manifestSha256).toBe(first.manifestSha256);
}

async function expectSaves(files: FileOperations, folder: string): Promise<void> {
  const storage = new Directory(folder, files);
  const saved = await newer.save(storage, { step: 200, save: 'again', shards: 3 });
  expect(saved.manifest.stateSha256).toBe(newer.image.sha256);
  expect(new Set(await storage.list())).toEqual(new Set(['step-000000100', 'step-000000200']));
}

const save = (folder: string) => (files: FileOperations) =>
  newer.save(new Directory(folder, files), { step: 200, save: 'first', shards: 2 });

describe('a save whose process is killed at any file operation', () => {
  it('leaves the old checkpoint or the new one on a real disk, never half of one, and the next save succeeds', async () => {
    const folders: string[] = [];
    let folder = '';
    let first: VerifiedCheckpoint | undefined;
    const prepare = async (): Promise<FileOperations> => {
      folder = mkdtempSync(join(tmpdir(), 'lockstep-crash-'));
      folders.push(folder);
      first = await older.save(new Directory(folder, realFiles), { step: 100, save: 'older', shards: 2 });
      return realFiles;
    };
    let moments = 0;
    for await (const { files } of deaths(prepare, (files) => save(folder)(files))) {
      if (first !== undefined) await expectOldOrNew(files, folder, first);
      await expectSaves(files, folder);
      rmSync(folder, { recursive: true });
      moments++;
    }
    expect(moments).toBeGreaterThan(100);
  });

  it('leaves the old checkpoint or the new one whatever the loss of power took with it', async () => {
    let first: VerifiedCheckpoint | undefined;
    const prepare = async (): Promise<MemoryDisk> => {
      const disk = new MemoryDisk();
      first = await older.save(new Directory(FOLDER, disk), { step: 100, save: 'older', shards: 2 });
      return disk.after(LOSSES['all that was not synced is lost'] ?? randomLoss(Math.random));
    };
    let published = 0;
    const random = randomFrom(7);
    for await (const { files, died } of deaths(prepare, save(FOLDER))) {
      if (!(files instanceof MemoryDisk) || first === undefined) throw new Error('prepare makes a disk');
      const losses = [
        ...Object.entries(LOSSES),
        ...Array.from({ length: RANDOM_LOSSES }, () => ['some is lost', randomLoss(random)] as const),
      ];
      for (const [what, loss] of losses) {
        const found = files.after(loss);
        await expect(expectOldOrNew(found, FOLDER, first), `${died}, ${what}`).resolves.toBeUndefined();
        await expect(expectSaves(found, FOLDER), `${died}, ${what}`).resolves.toBeUndefined();
        // Once it is published nothing can take it away.
        if (died === undefined)
          expect(await new Directory(FOLDER, files.after(loss)).list()).toContain('step-000000200');
      }
      if (died === undefined) published++;
    }
    expect(published).toBe(1);
  });

  it('leaves a folder in which what is saved next is safe from a loss of power, were it only just made', async () => {
    const prepare = async (): Promise<MemoryDisk> => {
      const disk = new MemoryDisk();
      await disk.mkdir('/disk');
      await disk.mkdir('/disk/checkpoints');
      return disk.after(LOSSES['nothing is lost'] ?? randomLoss(Math.random));
    };
    for await (const { files, died } of deaths(prepare, save(FOLDER))) {
      if (!(files instanceof MemoryDisk)) throw new Error('prepare makes a disk');
      await newer.save(new Directory(FOLDER, files), { step: 200, save: 'again', shards: 3 });
      const found = new Directory(
        FOLDER,
        files.after(LOSSES['all that was not synced is lost'] ?? randomLoss(Math.random)),
      );
      expect(await found.list(), died).toEqual(['step-000000200']);
    }
  });

  it('leaves a damaged checkpoint of the same step, the new one or none, and never the last good one lost', async () => {
    let first: VerifiedCheckpoint | undefined;
    const prepare = async (): Promise<MemoryDisk> => {
      const disk = new MemoryDisk();
      const storage = new Directory(FOLDER, disk);
      first = await older.save(storage, { step: 100, save: 'older', shards: 2 });
      await newer.save(storage, { step: 200, save: 'damaged', shards: 2 });
      await disk.unlink(`${FOLDER}/step-000000200/shard-00001-of-00002.safetensors`);
      return disk.after(LOSSES['nothing is lost'] ?? randomLoss(Math.random));
    };
    const random = randomFrom(8);
    for await (const { files, died } of deaths(prepare, save(FOLDER))) {
      if (!(files instanceof MemoryDisk) || first === undefined) throw new Error('prepare makes a disk');
      for (const loss of [...Object.values(LOSSES), randomLoss(random), randomLoss(random)]) {
        const found = files.after(loss);
        const storage = new Directory(FOLDER, found);
        expect((await verifyIn(storage, 'step-000000100')).manifestSha256).toBe(first.manifestSha256);
        await expect(expectSaves(found, FOLDER), died).resolves.toBeUndefined();
      }
    }
  });
});

describe('a removal whose process is killed at any file operation', () => {
  it('leaves the checkpoint whole or not at all, whatever the loss of power took with it', async () => {
    const prepare = async (): Promise<MemoryDisk> => {
      const disk = new MemoryDisk();
      await older.save(new Directory(FOLDER, disk), { step: 100, save: 'older', shards: 2 });
      return disk.after(LOSSES['nothing is lost'] ?? randomLoss(Math.random));
    };
    const random = randomFrom(9);
    const remove = (files: FileOperations) => new Directory(FOLDER, files).remove(checkpointName(100));
    for await (const { files, died } of deaths(prepare, remove)) {
      if (!(files instanceof MemoryDisk)) throw new Error('prepare makes a disk');
      for (const loss of [...Object.values(LOSSES), randomLoss(random), randomLoss(random)]) {
        const storage = new Directory(FOLDER, files.after(loss));
        for (const name of await storage.list()) await expect(verifyIn(storage, name), died).resolves.toBeDefined();
        if (died === undefined) expect(await storage.list()).toEqual([]);
      }
    }
  });
});
