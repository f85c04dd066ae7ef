/** Writes one shard of an image: its own safetensors header, and a run of the image's bytes. */
import { createHash, type Hash } from 'node:crypto';
import type { ShardFacts } from '../../shared/checkpoint/manifest.js';
import { eachPiece } from '../../shared/checkpoint/pieces.js';
import { cutIntoRuns, shardHeader } from '../../shared/checkpoint/shard_plan.js';
import type { Draft, FileWriter, Storage } from '../../shared/checkpoint/storage.js';
import type { ImageFile } from './image_file.js';

export interface ShardToWrite {
  readonly draft: Draft;
  readonly shard: number;
  readonly shards: number;
  /** Length of the whole image. */
  readonly bytes: number;
}

export async function writeShard(
  storage: Storage,
  image: ImageFile,
  { draft, shard, shards, bytes }: ShardToWrite,
  signal?: AbortSignal,
): Promise<ShardFacts> {
  const header = await image.header(bytes);
  const runs = cutIntoRuns(header, shards);
  const run = runs[shard] ?? { at: header.bytes, length: 0 };
  const head = shardHeader(header, runs, shard);
  const file = storage.shardFile(draft, shard, shards);
  const fileBytes = head.length + run.length;
  signal?.throwIfAborted();
  const writer = await storage.createShard(draft, file, fileBytes);
  try {
    const hash = createHash('sha256').update(head);
    await writer.write(head);
    await eachPiece(image, run, (piece) => writtenAndHashed(writer, hash, piece), signal);
    const sha256 = hash.digest('hex');
    signal?.throwIfAborted();
    await writer.finish(sha256);
    return { shard, file, bytes: fileBytes, sha256 };
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** The piece is hashed here while another thread writes it. */
function writtenAndHashed(writer: FileWriter, hash: Hash, piece: Buffer): Promise<void> {
  const written = writer.write(piece);
  hash.update(piece);
  return written;
}
