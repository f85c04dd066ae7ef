/** A publisher that was frozen and given up wakes, or dies and another one takes over: whatever the order of their operations, both end well. */
import { setImmediate } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { Directory } from '../../../shared/checkpoint/directory.js';
import type { FileOperations } from '../../../shared/checkpoint/file_operations.js';
import { type VerifiedCheckpoint, verifyIn } from '../../../shared/checkpoint/verify.js';
import { imageOf, randomFrom, SOME_TENSORS } from '../../shared/checkpoint/images.js';
import { InterposedFiles, MortalFiles } from '../../shared/checkpoint/interposed_files.js';
import { MemoryDisk } from '../../shared/checkpoint/memory_disk.js';
import { StateMemory } from './saving.js';
import { DESCRIPTION } from './test_thread.js';

const FOLDER = '/disk/job';
const SAVE = { step: 200, save: 'shared', shards: 2 };
const ORDERS = 120;
const state = new StateMemory(imageOf(SOME_TENSORS, 1));
const otherState = new StateMemory(imageOf(SOME_TENSORS, 2));
afterAll(() => {
  state.close();
  otherState.close();
});

/** Lets one operation of one publisher happen at a time, in an order made from a seed. */
class Scheduler {
  readonly #waiting = new Map<string, () => void>();
  #running = true;

  filesFor(name: string, base: FileOperations): FileOperations {
    return new InterposedFiles(base, async (_operation, act) => {
      await new Promise<void>((resolve) => this.#waiting.set(name, resolve));
      return act();
    });
  }

  async run(random: () => number): Promise<void> {
    while (this.#running) {
      await setImmediate();
      // Sometimes one of them sleeps for long.
      const burst = random() < 0.2 ? Math.floor(random() * 40) : 1;
      const name = [...this.#waiting.keys()][Math.floor(random() * this.#waiting.size)];
      for (let count = 0; count < burst && name !== undefined; count++) {
        const go = this.#waiting.get(name);
        this.#waiting.delete(name);
        go?.();
        await setImmediate();
      }
    }
  }

  stop(): void {
    this.#running = false;
  }
}

async function diskWithDraft(
  damaged: boolean,
): Promise<{ disk: MemoryDisk; shards: Awaited<ReturnType<StateMemory['writeShards']>> }> {
  const disk = new MemoryDisk();
  const storage = new Directory(FOLDER, disk);
  if (damaged) {
    await otherState.save(storage, { ...SAVE, save: 'damaged' });
    await disk.unlink(`${FOLDER}/step-000000200/shard-00000-of-00002.safetensors`);
  }
  return { disk, shards: await state.writeShards(storage, SAVE) };
}

async function expectPublished(disk: MemoryDisk, results: readonly VerifiedCheckpoint[]): Promise<void> {
  const storage = new Directory(FOLDER, disk);
  const there = await verifyIn(storage, 'step-000000200');
  expect(there.manifest.stateSha256).toBe(state.image.sha256);
  for (const result of results) expect(result.manifestSha256).toBe(there.manifestSha256);
}

describe('two publishers of one save', () => {
  it.each([
    { what: 'where nothing is', damaged: false },
    { what: 'where a damaged checkpoint is', damaged: true },
  ])(`both succeed $what, in each of ${ORDERS} orders`, async ({ damaged }) => {
    for (let seed = 1; seed <= ORDERS; seed++) {
      const { disk, shards } = await diskWithDraft(damaged);
      const scheduler = new Scheduler();
      const publishers = ['first', 'second'].map((name) =>
        state.publish(new Directory(FOLDER, scheduler.filesFor(name, disk)), SAVE, shards),
      );
      const order = scheduler.run(randomFrom(seed));
      const results = await Promise.allSettled(publishers);
      scheduler.stop();
      await order;
      const failures = results.flatMap((result) =>
        result.status === 'rejected' ? [`seed ${seed}: ${result.reason}`] : [],
      );
      expect(failures).toEqual([]);
      await expectPublished(
        disk,
        results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])),
      );
      expect(await disk.readdir(FOLDER)).toEqual(['step-000000200']);
    }
  });

  it('the second succeeds wherever the first one died, and where it wakes again', async () => {
    for (let livesFor = 0; ; livesFor++) {
      const { disk, shards } = await diskWithDraft(livesFor % 2 === 1);
      const mortal = new MortalFiles(disk, { livesFor });
      const end = await Promise.race([state.publish(new Directory(FOLDER, mortal.files), SAVE, shards), mortal.death]);
      const second = await state.publish(new Directory(FOLDER, disk), SAVE, shards);
      await expectPublished(disk, [second]);
      // What was published stays, also if the power is lost the next moment.
      await expectPublished(disk.after({ entries: () => 'lost', data: () => 'lost' }), [second]);
      if (end !== 'died') return;
    }
  });

  it('one that wakes after the checkpoint was removed fails, and brings nothing back', async () => {
    const { disk, shards } = await diskWithDraft(false);
    const storage = new Directory(FOLDER, disk);
    await state.publish(storage, SAVE, shards);
    await storage.remove('step-000000200');
    await expect(state.publish(storage, SAVE, shards)).rejects.toThrow('abandoned or removed');
    expect(await disk.readdir(FOLDER)).toEqual([]);
  });

  it('a writer that wakes after the publication leaves the checkpoint as it is', async () => {
    const { disk, shards } = await diskWithDraft(false);
    const storage = new Directory(FOLDER, disk);
    const published = await state.publish(storage, SAVE, shards);
    await otherState.writeShards(storage, SAVE);
    await expectPublished(disk, [published]);
    await expectPublished(disk, [await state.publish(storage, SAVE, shards)]);
  });

  it('one that wakes after a job that has begun anew has saved the step again leaves that as it is', async () => {
    const { disk, shards } = await diskWithDraft(false);
    const storage = new Directory(FOLDER, disk);
    const newer = await otherState.save(storage, { ...SAVE, save: 'newer', createdMs: DESCRIPTION.createdMs + 1 });
    await expect(state.publish(storage, SAVE, shards)).rejects.toThrow('a newer save has published another state');
    expect((await verifyIn(storage, 'step-000000200')).manifestSha256).toBe(newer.manifestSha256);
  });

  it('one of a later save takes the place of another state', async () => {
    const { disk, shards } = await diskWithDraft(false);
    const storage = new Directory(FOLDER, disk);
    await otherState.save(storage, { ...SAVE, save: 'older', createdMs: DESCRIPTION.createdMs - 1 });
    await expectPublished(disk, [await state.publish(storage, SAVE, shards)]);
  });
});
