import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { listCheckpoints } from '../../../shared/checkpoint/list.js';
import type { ShardFacts } from '../../../shared/checkpoint/manifest.js';
import { verifyCheckpoint } from '../../../shared/checkpoint/verify.js';
import type { CheckpointCommand } from '../../../worker/checkpoint/checkpoints.js';
import type { MemoryFile } from '../../../worker/io/memory_file.js';
import { FaultyStore } from '../../shared/checkpoint/faulty_store.js';
import { type Image, imageOf, SOME_TENSORS } from '../../shared/checkpoint/images.js';
import { timed } from '../../timed.js';
import { ensureBuilt } from '../built_threads.js';
import { DESCRIPTION, memoryOf, reopened, TestThread } from './test_thread.js';

const image = imageOf(SOME_TENSORS);
/** Long enough for a command to arrive while it is being written or read. */
const large = imageOf(Array.from({ length: 8 }, (_, index) => ({ name: `t${index}`, shape: [4_000_000] })));

let thread: TestThread;
let folder: string;
beforeAll(ensureBuilt);
beforeAll(() => {
  thread = new TestThread();
});
afterAll(() => thread.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-checkpoint-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  expect(thread.events.filter(({ kind }) => kind !== 'restore_progressed')).toEqual([]);
});

const SAVE = { job: 'job-1', save: 'save-1', committed: 123 };

function openMemoryFiles(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('memfd:test image');
    } catch {
      return false;
    }
  }).length;
}

/** Everything that a save needs, told to the thread step by step. */
class Saving {
  readonly #memory: MemoryFile;

  constructor(
    private readonly image: Image,
    private readonly place = folder,
    private readonly teller = thread,
  ) {
    this.#memory = memoryOf(image.bytes);
  }

  writeShard(shard: number, shards: number, bytes = this.image.bytes.length): void {
    const fd = reopened(this.#memory);
    this.teller.tell({ kind: 'write_shard', ...SAVE, folder: this.place, shard, shards, fd, bytes });
  }

  publish(shards: readonly ShardFacts[]): void {
    const more = { shards, description: DESCRIPTION, fd: reopened(this.#memory), bytes: this.image.bytes.length };
    this.teller.tell({ kind: 'publish', ...SAVE, folder: this.place, ...more });
  }

  async save(shards: number) {
    for (let shard = 0; shard < shards; shard++) this.writeShard(shard, shards);
    const facts: ShardFacts[] = [];
    for (let shard = 0; shard < shards; shard++) facts.push((await this.teller.next('shard_written')).facts);
    this.publish(facts);
    const published = await this.teller.next('published');
    this.close();
    return published;
  }

  close(): void {
    this.#memory.close();
  }
}

type Restore = Extract<CheckpointCommand, { readonly kind: 'restore' }>;

function restoreOf(
  { path, manifestSha256 }: { readonly path: string; readonly manifestSha256: string },
  memory: MemoryFile,
  more: Partial<Restore> = {},
): Restore {
  const fixed = { kind: 'restore', job: 'job-1', generation: 4, part: 0, parts: 1 } as const;
  return { ...fixed, path, manifestSha256, fd: reopened(memory), ...more };
}

function contentOf(memory: MemoryFile): Buffer {
  if (memory.size() === 0) return Buffer.alloc(0);
  return Buffer.from(memory.map(0, memory.size()).bytes(0, memory.size()));
}

describe('the checkpoint thread', () => {
  it('saves a state that can be verified, listed and restored', async () => {
    const published = await new Saving(image, `${folder}/gpt`).save(3);
    expect(published).toMatchObject({
      path: `${folder}/gpt/step-000000123`,
      stateSha256: image.sha256,
      save: 'save-1',
    });
    expect(await verifyCheckpoint(published.path)).toMatchObject({
      manifestSha256: published.manifestSha256,
      bytes: published.bytes,
    });
    expect(await listCheckpoints(`${folder}/gpt`)).toEqual([{ path: published.path, step: 123 }]);
    const memory = memoryOf(Buffer.alloc(0));
    thread.tell(restoreOf(published, memory));
    const restored = await thread.next('part_restored');
    expect(restored).toMatchObject({ generation: 4, bytes: image.bytes.length, sha256: image.sha256, missing: [] });
    expect(contentOf(memory).equals(image.bytes)).toBe(true);
    memory.close();
    expect(readdirSync(`${folder}/gpt`)).toEqual(['step-000000123']);
  });

  it('closes every descriptor that it was given, whatever became of it', async () => {
    const before = openMemoryFiles();
    const saving = new Saving(image);
    saving.writeShard(0, 2);
    saving.writeShard(1, 2);
    const facts = [await thread.next('shard_written'), await thread.next('shard_written')].map((event) => event.facts);
    saving.publish(facts);
    const published = await thread.next('published');
    saving.writeShard(0, 1, 7);
    expect(await thread.nextFailure()).toMatchObject({
      kind: 'save_failed',
      reason: 'the state in memory is only 7 bytes long',
    });
    const memory = memoryOf(Buffer.alloc(0));
    thread.tell(restoreOf({ ...published, manifestSha256: '0'.repeat(64) }, memory));
    expect(await thread.nextFailure()).toMatchObject({ kind: 'restore_failed', damaged: true });
    thread.tell(restoreOf(published, memory));
    thread.tell({ kind: 'stop_restore', job: 'job-1' });
    thread.tell(restoreOf(published, memory, { generation: 5 }));
    await thread.next('part_restored');
    saving.close();
    memory.close();
    expect(openMemoryFiles()).toBe(before);
  });

  it('says in one line why a save failed', async () => {
    writeFileSync(`${folder}/file`, '');
    const saving = new Saving(image, `${folder}/file/checkpoints`);
    saving.writeShard(0, 1);
    expect(await thread.nextFailure()).toEqual({
      kind: 'save_failed',
      job: 'job-1',
      save: 'save-1',
      reason: `cannot make the folder ${folder}/file/checkpoints: a part of the path is not a folder (ENOTDIR)`,
    });
    saving.close();
  });

  it('refuses memory that holds no image', async () => {
    const broken = Buffer.from(image.bytes);
    broken.writeBigUInt64LE(2n ** 60n);
    const saving = new Saving({ ...image, bytes: broken });
    saving.writeShard(0, 1);
    const { reason } = { reason: '', ...(await thread.nextFailure()) };
    expect(reason).toBe('the state in memory has a header of 1152921504606846976 bytes; at most 33554432 are allowed');
    saving.close();
  });

  it('stops a save that is abandoned, says nothing more of it, and leaves nothing', async () => {
    const saving = new Saving(large);
    for (const shard of [0, 1]) saving.writeShard(shard, 2);
    await delay(30);
    thread.tell({ kind: 'abandon_save', ...SAVE, folder });
    await expect.poll(() => openMemoryFiles()).toBe(1);
    await expect.poll(() => readdirSync(folder)).toEqual([]);
    await delay(200);
    expect(thread.events).toEqual([]);
    saving.close();
  });

  it('ends a restore when a newer one of the job begins, and answers the newer one only', async () => {
    const published = await new Saving(large).save(2);
    const memory = memoryOf(Buffer.alloc(0));
    thread.tell(restoreOf(published, memory));
    await delay(20);
    thread.tell(restoreOf(published, memory, { generation: 5, parts: 2, part: 1 }));
    const restored = await thread.next('part_restored');
    expect(restored).toMatchObject({ generation: 5, bytes: large.bytes.length });
    const [header, own] = restored.own;
    expect(restored.missing).toEqual([{ at: header?.length, length: (own?.at ?? 0) - (header?.length ?? 0) }]);
    const run = [own?.at, (own?.at ?? 0) + (own?.length ?? 0)] as const;
    expect(
      contentOf(memory)
        .subarray(...run)
        .equals(large.bytes.subarray(...run)),
    ).toBe(true);
    await delay(100);
    memory.close();
  });

  it('writes nothing to the memory of a restore that was stopped', async () => {
    const published = await new Saving(large).save(1);
    const memory = memoryOf(Buffer.alloc(0));
    thread.tell(restoreOf(published, memory));
    await delay(20);
    thread.tell({ kind: 'stop_restore', job: 'job-1' });
    await expect.poll(() => openMemoryFiles()).toBe(1);
    const content = contentOf(memory);
    await delay(200);
    expect(contentOf(memory).equals(content)).toBe(true);
    memory.close();
  });

  it('reports that a restore goes on, while a slow store answers', timed, async () => {
    const store = await FaultyStore.start();
    const own = new TestThread({ s3: store.options() });
    const published = await new Saving(image, 's3://bucket/job-1', own).save(2);
    expect(published.path).toBe('s3://bucket/job-1/step-000000123');
    let released = false;
    store.faultWith(() => (released ? { kind: 'pass' } : { kind: 'answer', answer: { status: 503 } }));
    const memory = memoryOf(Buffer.alloc(0));
    own.tell(restoreOf(published, memory));
    const startMs = performance.now();
    for (let count = 0; count < 2; count++) await own.next('restore_progressed');
    expect(performance.now() - startMs).toBeGreaterThan(900);
    expect(performance.now() - startMs).toBeLessThan(2500);
    released = true;
    await own.next('part_restored');
    expect(contentOf(memory).equals(image.bytes)).toBe(true);
    memory.close();
    own.tell({ kind: 'remove', job: 'job-1', path: published.path });
    expect(await own.next('removed')).toMatchObject({ error: undefined });
    await own.close();
    await store.close();
  });

  it('removes a checkpoint, and says so even if it is not there', async () => {
    const { path } = await new Saving(image).save(1);
    thread.tell({ kind: 'remove', job: 'job-1', path });
    expect(await thread.next('removed')).toEqual({ kind: 'removed', job: 'job-1', path, error: undefined });
    expect(readdirSync(folder)).toEqual([]);
    thread.tell({ kind: 'remove', job: 'job-1', path });
    expect(await thread.next('removed')).toMatchObject({ error: undefined });
    thread.tell({ kind: 'remove', job: 'job-1', path: `${folder}/model` });
    expect((await thread.next('removed')).error).toContain('a checkpoint is called step-<9 digits>');
  });

  it('tells damage from a storage that cannot be reached', async () => {
    const published = await new Saving(image).save(1);
    truncateSync(`${published.path}/shard-00000-of-00001.safetensors`, 100);
    const memory = memoryOf(Buffer.alloc(0));
    thread.tell(restoreOf(published, memory));
    expect(await thread.nextFailure()).toMatchObject({ damaged: true, path: published.path });
    thread.tell(restoreOf({ ...published, path: `${folder}/gone/step-000000123` }, memory));
    expect(await thread.nextFailure()).toMatchObject({ damaged: false });
    thread.tell(restoreOf({ ...published, path: 's3://bucket/step-000000123' }, memory));
    expect(await thread.nextFailure()).toMatchObject({ damaged: false });
    memory.close();
  });

  it('ends at once and closes what it holds when it is closed in the middle of a save', async () => {
    const own = new TestThread();
    const saving = new Saving(large, folder, own);
    saving.writeShard(0, 1);
    await delay(50);
    await own.close();
    saving.close();
    expect(openMemoryFiles()).toBe(0);
    expect(readdirSync(folder).filter((name) => name.startsWith('step-'))).toEqual([]);
  });

  it('fails loudly when it is told what nobody may tell it', async () => {
    const failure = new Promise<Error>((resolve) => {
      const own = new TestThread({ onFailed: resolve });
      const saving = new Saving(image, folder, own);
      saving.writeShard(2, 2);
      saving.close();
    });
    expect((await failure).message).toBe('shard 2 of 2');
  });

  it('runs at a lower priority than the daemon', () => {
    const niceOf = (tid: string): number => {
      const fields = readFileSync(`/proc/self/task/${tid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      return Number(fields[16]);
    };
    const own = Number(execFileSync('nice').toString());
    const all = readdirSync('/proc/self/task').map(niceOf);
    expect(all).toContain(Math.min(19, own + 5));
  });
});
