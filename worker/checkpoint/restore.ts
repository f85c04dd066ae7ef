/** Reads a worker's part of a checkpoint into its state memory, and says what it has to pull from the others. */
import { createHash, type Hash } from 'node:crypto';
import { type ReadOptions, readManifest, readShard } from '../../shared/checkpoint/checkpoint_reader.js';
import { headerBytes } from '../../shared/checkpoint/image_header.js';
import type { Manifest } from '../../shared/checkpoint/manifest.js';
import type { Storage } from '../../shared/checkpoint/storage.js';
import { checkImage } from '../../shared/checkpoint/verify.js';
import type { ByteRange } from './checkpoints.js';
import type { ImageFile } from './image_file.js';

export interface PartToRestore {
  /** Name of the checkpoint in its storage. */
  readonly name: string;
  readonly manifestSha256: string;
  readonly part: number;
  readonly parts: number;
}

export interface RestoredPart {
  /** Of the whole image. */
  readonly bytes: number;
  readonly sha256: string;
  readonly own: readonly ByteRange[];
  readonly missing: readonly ByteRange[];
}

export async function restorePart(
  storage: Storage,
  image: ImageFile,
  { name, manifestSha256, part, parts }: PartToRestore,
  options: ReadOptions = {},
): Promise<RestoredPart> {
  const { manifest } = await readManifest(storage, name, manifestSha256);
  const { header, shards, stateSha256 } = manifest;
  options.signal?.throwIfAborted();
  image.grow(header.bytes);
  const head = headerBytes(header.text);
  image.write(head, 0);
  const own = shards.filter(({ shard }) => shard % parts === part);
  // Only who reads everything can say something of the whole.
  const hash = parts === 1 ? createHash('sha256').update(head) : undefined;
  for (const shard of own) await restoreShard(storage, name, { manifest, shard }, image, hash, options);
  if (hash !== undefined) checkImage(storage.pathOf(name), manifest, hash.digest('hex'));
  const missing = shards.filter((shard) => !own.includes(shard));
  return {
    bytes: header.bytes,
    sha256: stateSha256,
    own: joined([{ at: 0, length: head.length }, ...own]),
    missing: missing.map(({ at, length }) => ({ at, length })).filter(({ length }) => length > 0),
  };
}

function restoreShard(
  storage: Storage,
  name: string,
  place: { readonly manifest: Manifest; readonly shard: Manifest['shards'][number] },
  image: ImageFile,
  hash: Hash | undefined,
  options: ReadOptions,
): Promise<void> {
  const take = (piece: Buffer, at: number): void => {
    image.write(piece, at);
    hash?.update(piece);
  };
  return readShard(storage, name, place, take, options);
}

/** Ranges that touch become one; empty ones go. */
function joined(ranges: readonly ByteRange[]): readonly ByteRange[] {
  const result: ByteRange[] = [];
  for (const { at, length } of ranges) {
    const last = result.at(-1);
    if (length === 0) continue;
    if (last !== undefined && last.at + last.length === at) {
      result[result.length - 1] = { at: last.at, length: last.length + length };
    } else result.push({ at, length });
  }
  return result;
}
