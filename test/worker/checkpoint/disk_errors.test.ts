/** FAULTS.md row 23: a full disk, an I/O error, a failed sync at any file operation of a save. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Directory } from '../../../shared/checkpoint/directory.js';
import { StorageFailure } from '../../../shared/checkpoint/errors.js';
import { realFiles } from '../../../shared/checkpoint/file_operations.js';
import { type VerifiedCheckpoint, verifyIn } from '../../../shared/checkpoint/verify.js';
import { imageOf, SOME_TENSORS } from '../../shared/checkpoint/images.js';
import { failingFiles, InterposedFiles, systemError } from '../../shared/checkpoint/interposed_files.js';
import { StateMemory } from './saving.js';

const older = new StateMemory(imageOf(SOME_TENSORS, 1));
const newer = new StateMemory(imageOf(SOME_TENSORS, 2));
afterAll(() => {
  older.close();
  newer.close();
});

let root: string;
let folder: string;
let storage: Directory;
let first: VerifiedCheckpoint;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'lockstep-errors-'));
  folder = join(root, 'job-1');
  storage = new Directory(folder, realFiles);
  first = await older.save(storage, { step: 100, save: 'older', shards: 2 });
});
afterEach(() => rmSync(root, { recursive: true }));

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

async function expectOlderUntouched(): Promise<void> {
  expect((await verifyIn(storage, 'step-000000100')).manifestSha256).toBe(first.manifestSha256);
}

const SAVE = { step: 200, save: 'fails', shards: 2 };
/** After these the save is done: what cannot be cleaned away now is left to a later one. */
const AFTERWARDS = /^(rename|readdir|unlink|status|mkdir) |\.saving-.* to .*\.removing-/;

describe('an error at any file operation of a save', () => {
  it.each(['ENOSPC', 'EIO', 'EDQUOT'])('%s fails the save in one line, harms nothing, leaks nothing', async (code) => {
    const before = openDescriptors();
    let failures = 0;
    for (let at = 0; ; at++) {
      const operations: string[] = [];
      const failing = new Directory(folder, failingFiles(realFiles, { at, code, operations }));
      const outcome = await newer.save(failing, SAVE).catch((error: unknown) => error);
      expect(openDescriptors()).toBe(before);
      await expectOlderUntouched();
      const failed = operations[at];
      if (outcome instanceof Error) {
        expect(outcome, failed).toBeInstanceOf(StorageFailure);
        expect(outcome.message, failed).toMatch(new RegExp(`^cannot .*${root}.*\\(${code}\\)$`));
        expect(outcome.message).not.toContain('\n');
        failures++;
      } else if (failed !== undefined && !failed.startsWith('close ')) {
        // Only closing what was read, and clearing up, may fail without the save failing.
        expect(failed).toMatch(AFTERWARDS);
        expect((await verifyIn(storage, 'step-000000200')).manifest.stateSha256).toBe(newer.image.sha256);
      }
      const again = await newer.save(storage, { ...SAVE, save: `again-${at}` });
      expect(again.manifest.stateSha256).toBe(newer.image.sha256);
      await storage.remove('step-000000200');
      if (failed === undefined) break;
    }
    expect(failures).toBeGreaterThan(40);
  });

  it('a disk that is full for good fails every save until it has space again', async () => {
    const full = new InterposedFiles(realFiles, async ({ name, path }, act) => {
      if (name === 'write' || name === 'mkdir') throw systemError('ENOSPC', path);
      return act();
    });
    for (const save of ['a', 'b', 'c']) {
      await expect(newer.save(new Directory(folder, full), { ...SAVE, save })).rejects.toThrow('no space is left');
    }
    await expectOlderUntouched();
    await expect(newer.save(storage, SAVE)).resolves.toMatchObject({ path: `${folder}/step-000000200` });
  });

  it('a failed sync is not tried again on the same file', async () => {
    const synced: string[] = [];
    const failing = new InterposedFiles(realFiles, async ({ name, path }, act) => {
      if (name !== 'sync') return act();
      synced.push(path);
      throw systemError('EIO', path);
    });
    for (const save of ['a', 'b']) {
      await expect(newer.save(new Directory(folder, failing), { ...SAVE, save })).rejects.toThrow('cannot sync');
    }
    expect(new Set(synced).size).toBe(synced.length);
    expect(
      readdirSync(folder).filter((name) => name.includes('.saving-000000200-') && /\.[0-9a-f]{12}$/.test(name)),
    ).toEqual([]);
  });

  it('a file system that writes less than it is asked for still gets the whole file', async () => {
    const slow = new InterposedFiles(realFiles, async ({ name, half }, act) => {
      if (name !== 'write' || half === undefined) return act();
      await half();
      return act();
    });
    await expect(newer.save(new Directory(folder, slow), SAVE)).resolves.toBeDefined();
  });
});
