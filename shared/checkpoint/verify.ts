/** Verifies a whole checkpoint: its manifest, every shard, and the image that they make up. */
import { createHash } from 'node:crypto';
import { type ReadOptions, readManifest, readShard } from './checkpoint_reader.js';
import { DamagedCheckpoint } from './errors.js';
import { headerBytes } from './image_header.js';
import type { Manifest } from './manifest.js';
import { manifestPath } from './manifest_text.js';
import { openCheckpoint, type StorageOptions } from './open_storage.js';
import type { Storage } from './storage.js';

export interface VerifiedCheckpoint {
  readonly path: string;
  readonly manifest: Manifest;
  readonly manifestSha256: string;
  /** All files together. */
  readonly bytes: number;
}

export interface VerifyOptions extends ReadOptions {
  /** What sha256 the manifest must have, where that is known. Without it a manifest that was rewritten with care is believed. */
  readonly manifestSha256?: string | undefined;
}

/**
 * `path`: a checkpoint's folder or s3:// URL. Reads everything. Rejects with DamagedCheckpoint, whose message names the file and what is
 * wrong with it, and with StorageFailure when it cannot be read.
 */
export function verifyCheckpoint(
  path: string,
  options: VerifyOptions & StorageOptions = {},
): Promise<VerifiedCheckpoint> {
  const { storage, name } = openCheckpoint(path, options);
  return verifyIn(storage, name, options);
}

export async function verifyIn(
  storage: Storage,
  name: string,
  options: VerifyOptions = {},
): Promise<VerifiedCheckpoint> {
  const { manifest, sha256, bytes } = await readManifest(storage, name, options.manifestSha256);
  const path = storage.pathOf(name);
  const image = createHash('sha256').update(headerBytes(manifest.header.text));
  for (const shard of manifest.shards) {
    await readShard(storage, name, { manifest, shard }, (piece) => void image.update(piece), options);
  }
  checkImage(path, manifest, image.digest('hex'));
  return verified(path, manifest, sha256, bytes);
}

/**
 * Of a checkpoint whose files were read and verified before they got their names: with the manifest that was written for them, it is
 * enough that they are there. Any other is read.
 */
export async function verifyNamed(storage: Storage, name: string, manifestSha256: string): Promise<VerifiedCheckpoint> {
  const { manifest, sha256, bytes } = await readManifest(storage, name);
  if (sha256 !== manifestSha256) return verifyIn(storage, name);
  for (const shard of manifest.shards) {
    const file = await storage.openFile(name, shard.file);
    await file.close();
    if (file.bytes !== shard.bytes) {
      throw new DamagedCheckpoint(file.path, `has ${file.bytes} bytes, but the manifest says ${shard.bytes}`);
    }
  }
  return verified(storage.pathOf(name), manifest, sha256, bytes);
}

function verified(path: string, manifest: Manifest, manifestSha256: string, manifestBytes: number): VerifiedCheckpoint {
  const bytes = manifest.shards.reduce((sum, shard) => sum + shard.bytes, manifestBytes);
  return { path, manifest, manifestSha256, bytes };
}

/** Each shard may be what the manifest says, and yet the state be another than the one whose digest it gives. */
export function checkImage(path: string, manifest: Manifest, sha256: string): void {
  if (sha256 !== manifest.stateSha256) {
    throw new DamagedCheckpoint(
      manifestPath(path),
      `says the state has sha256 ${manifest.stateSha256}, but it has ${sha256}`,
    );
  }
}
