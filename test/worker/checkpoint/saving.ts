/** Saves and restores without a thread: the acts themselves, on whatever storage a test has. */
import type { ShardFacts } from '../../../shared/checkpoint/manifest.js';
import type { Storage } from '../../../shared/checkpoint/storage.js';
import type { VerifiedCheckpoint } from '../../../shared/checkpoint/verify.js';
import { ImageFile } from '../../../worker/checkpoint/image_file.js';
import { publish } from '../../../worker/checkpoint/publish.js';
import { type RestoredPart, restorePart } from '../../../worker/checkpoint/restore.js';
import { writeShard } from '../../../worker/checkpoint/write_shard.js';
import type { MemoryFile } from '../../../worker/io/memory_file.js';
import type { Image } from '../../shared/checkpoint/images.js';
import { DESCRIPTION, memoryOf } from './test_thread.js';

export interface Save {
  readonly step: number;
  readonly save: string;
  readonly shards: number;
  readonly createdMs?: number;
}

/** Descriptors stay open until `close`. */
export class StateMemory {
  readonly memory: MemoryFile;
  readonly file: ImageFile;

  constructor(readonly image: Image) {
    this.memory = memoryOf(image.bytes);
    this.file = new ImageFile(this.memory.fd);
  }

  async writeShards(storage: Storage, { step, save, shards }: Save): Promise<readonly ShardFacts[]> {
    const facts: ShardFacts[] = [];
    const bytes = this.image.bytes.length;
    for (let shard = 0; shard < shards; shard++) {
      facts.push(await writeShard(storage, this.file, { draft: { step, save }, shard, shards, bytes }));
    }
    return facts;
  }

  publish(
    storage: Storage,
    { step, save, createdMs = DESCRIPTION.createdMs }: Save,
    shards: readonly ShardFacts[],
  ): Promise<VerifiedCheckpoint> {
    const description = { ...DESCRIPTION, committed: step, createdMs };
    return publish(storage, this.file, {
      draft: { step, save },
      shards,
      description,
      bytes: this.image.bytes.length,
    });
  }

  async save(storage: Storage, save: Save): Promise<VerifiedCheckpoint> {
    return this.publish(storage, save, await this.writeShards(storage, save));
  }

  close(): void {
    this.memory.close();
  }
}

export interface Restored extends RestoredPart {
  readonly memory: Buffer;
}

/** Restores one part into new memory. */
export async function restored(
  storage: Storage,
  checkpoint: { readonly name: string; readonly manifestSha256: string },
  { part, parts }: { readonly part: number; readonly parts: number } = { part: 0, parts: 1 },
): Promise<Restored> {
  const memory = memoryOf(Buffer.alloc(0));
  try {
    const result = await restorePart(storage, new ImageFile(memory.fd), { ...checkpoint, part, parts });
    const size = memory.size();
    return { ...result, memory: Buffer.from(memory.map(0, size).bytes(0, size)) };
  } finally {
    memory.close();
  }
}
