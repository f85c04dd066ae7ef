/** Makes a checkpoint of the shards that all are there: manifest, final name, read back. */
import { createHash } from 'node:crypto';
import { headerBytes, type ImageHeader } from '../../shared/checkpoint/image_header.js';
import type { CheckpointDescription, ShardFacts } from '../../shared/checkpoint/manifest.js';
import { makeManifest, manifestText } from '../../shared/checkpoint/manifest_text.js';
import { checkpointName } from '../../shared/checkpoint/names.js';
import { eachPiece } from '../../shared/checkpoint/pieces.js';
import type { Draft, Storage } from '../../shared/checkpoint/storage.js';
import { type VerifiedCheckpoint, verifyIn } from '../../shared/checkpoint/verify.js';
import type { ImageFile } from './image_file.js';

export interface CheckpointToPublish {
  readonly draft: Draft;
  readonly shards: readonly ShardFacts[];
  readonly description: CheckpointDescription;
  /** Length of the whole image. */
  readonly bytes: number;
}

/** `signal` counts until the checkpoint is made visible; what is visible is also verified. */
export async function publish(
  storage: Storage,
  image: ImageFile,
  { draft, shards, description, bytes }: CheckpointToPublish,
  signal?: AbortSignal,
): Promise<VerifiedCheckpoint> {
  const header = await image.header(bytes);
  const stateSha256 = await imageSha256(image, header, signal);
  const text = manifestText(makeManifest(description, { header, sha256: stateSha256 }, shards));
  signal?.throwIfAborted();
  const sha256 = createHash('sha256').update(text).digest('hex');
  const name = checkpointName(draft.step);
  return storage.publish(draft, { text, sha256, stateSha256, files: shards }, () => verifyIn(storage, name));
}

async function imageSha256(image: ImageFile, header: ImageHeader, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256').update(headerBytes(header.text));
  const data = { at: header.dataAt, length: header.bytes - header.dataAt };
  await eachPiece(image, data, (piece) => void hash.update(piece), signal);
  return hash.digest('hex');
}
