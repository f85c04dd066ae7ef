/** Makes a checkpoint of the shards that all are there: read back, manifest, final name. */
import { createHash } from 'node:crypto';
import { readOpenShard } from '../../shared/checkpoint/checkpoint_reader.js';
import { DamagedCheckpoint } from '../../shared/checkpoint/errors.js';
import { headerBytes, type ImageHeader } from '../../shared/checkpoint/image_header.js';
import type { CheckpointDescription, Manifest, ShardFacts } from '../../shared/checkpoint/manifest.js';
import { makeManifest, manifestText } from '../../shared/checkpoint/manifest_text.js';
import { checkpointName } from '../../shared/checkpoint/names.js';
import { eachPiece } from '../../shared/checkpoint/pieces.js';
import type { Draft, Storage } from '../../shared/checkpoint/storage.js';
import { type VerifiedCheckpoint, verifyIn, verifyNamed } from '../../shared/checkpoint/verify.js';
import type { ImageFile } from './image_file.js';

export interface CheckpointToPublish {
  readonly draft: Draft;
  readonly shards: readonly ShardFacts[];
  readonly description: CheckpointDescription;
  /** Length of the whole image. */
  readonly bytes: number;
}

/**
 * The shards are read back and verified before they get their name: then what is visible needs no second look. `signal` counts until
 * the checkpoint is made visible.
 */
export async function publish(
  storage: Storage,
  image: ImageFile,
  { draft, shards, description, bytes }: CheckpointToPublish,
  signal?: AbortSignal,
): Promise<VerifiedCheckpoint> {
  const header = await image.header(bytes);
  const manifestOf = (sha256: string): Manifest => makeManifest(description, { header, sha256 }, shards);
  const readBack = await draftSha256(storage, draft, manifestOf(''), signal);
  const stateSha256 = readBack ?? (await imageSha256(image, header, signal));
  const text = manifestText(manifestOf(stateSha256));
  signal?.throwIfAborted();
  const sha256 = createHash('sha256').update(text).digest('hex');
  const name = checkpointName(draft.step);
  return storage.publish(draft, { text, sha256, stateSha256, createdMs: description.createdMs, files: shards }, () =>
    readBack === undefined ? verifyIn(storage, name) : verifyNamed(storage, name, sha256),
  );
}

/**
 * sha256 of the image that the draft's shards make up; undefined when they are not those that were reported: another publisher may have
 * taken them, and a late writer may have left others. What is then published, or found, is read under its own name.
 */
async function draftSha256(
  storage: Storage,
  draft: Draft,
  manifest: Manifest,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const hash = createHash('sha256').update(headerBytes(manifest.header.text));
  for (const shard of manifest.shards) {
    const file = await storage.openDraftFile(draft, shard.file);
    if (file === undefined) return undefined;
    try {
      await readOpenShard(file, { manifest, shard }, (piece) => void hash.update(piece), { signal });
    } catch (error) {
      if (error instanceof DamagedCheckpoint) return undefined;
      throw error;
    } finally {
      await file.close();
    }
  }
  return hash.digest('hex');
}

async function imageSha256(image: ImageFile, header: ImageHeader, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256').update(headerBytes(header.text));
  const data = { at: header.dataAt, length: header.bytes - header.dataAt };
  await eachPiece(image, data, (piece) => void hash.update(piece), signal);
  return hash.digest('hex');
}
