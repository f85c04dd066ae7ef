/** Reads a checkpoint and believes nothing: what it hands out is what the manifest says, or it throws DamagedCheckpoint. */
import { createHash } from 'node:crypto';
import { DamagedCheckpoint } from './errors.js';
import type { Manifest, ManifestShard } from './manifest.js';
import { BadManifest, MAX_MANIFEST_BYTES, parseManifest } from './manifest_text.js';
import { MANIFEST_FILE, stepOfCheckpoint } from './names.js';
import { eachPiece } from './pieces.js';
import { shardHeader } from './shard_plan.js';
import type { FileReader, Storage } from './storage.js';

export interface ReadManifest {
  readonly manifest: Manifest;
  readonly sha256: string;
  readonly bytes: number;
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Bytes that were read since the last call. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** With `sha256`, that which the manifest must have. */
export async function readManifest(storage: Storage, name: string, sha256?: string): Promise<ReadManifest> {
  const file = await storage.openFile(name, MANIFEST_FILE);
  try {
    if (file.bytes > MAX_MANIFEST_BYTES) {
      throw new DamagedCheckpoint(file.path, `has ${file.bytes} bytes; at most ${MAX_MANIFEST_BYTES} are allowed`);
    }
    const text = Buffer.alloc(file.bytes);
    await file.read(text, 0);
    const actual = createHash('sha256').update(text).digest('hex');
    if (sha256 !== undefined && actual !== sha256) {
      throw new DamagedCheckpoint(file.path, `has sha256 ${actual}, but the one that was recorded for it is ${sha256}`);
    }
    const manifest = parsed(file.path, text);
    const step = stepOfCheckpoint(name) ?? manifest.description.committed;
    if (manifest.description.committed !== step) {
      throw new DamagedCheckpoint(file.path, `is of step ${manifest.description.committed}, but lies in ${name}`);
    }
    return { manifest, sha256: actual, bytes: text.length };
  } finally {
    await file.close();
  }
}

function parsed(path: string, text: Buffer): Manifest {
  try {
    return parseManifest(text);
  } catch (error) {
    if (error instanceof BadManifest) throw new DamagedCheckpoint(path, error.problem);
    throw error;
  }
}

/**
 * Reads one shard and hands its tensors' bytes to `take`, each piece with its place in the image. They are verified only when this
 * resolves.
 */
export async function readShard(
  storage: Storage,
  name: string,
  place: { readonly manifest: Manifest; readonly shard: ManifestShard },
  take: (piece: Buffer, at: number) => void,
  options: ReadOptions = {},
): Promise<void> {
  const file = await storage.openFile(name, place.shard.file);
  try {
    await readOpenShard(file, place, take, options);
  } finally {
    await file.close();
  }
}

/** The same of a file that is open, wherever it lies. */
export async function readOpenShard(
  file: FileReader,
  { manifest, shard }: { readonly manifest: Manifest; readonly shard: ManifestShard },
  take: (piece: Buffer, at: number) => void,
  { signal, onBytes }: ReadOptions,
): Promise<void> {
  if (file.bytes !== shard.bytes) {
    throw new DamagedCheckpoint(file.path, `has ${file.bytes} bytes, but the manifest says ${shard.bytes}`);
  }
  const expected = shardHeader(manifest.header, manifest.shards, shard.shard);
  const header = Buffer.alloc(expected.length);
  await file.read(header, 0);
  if (!header.equals(expected)) {
    throw new DamagedCheckpoint(file.path, "has a safetensors header that is not the manifest's for this shard");
  }
  const hash = createHash('sha256').update(header);
  let at = shard.at;
  const use = (piece: Buffer): void => {
    take(piece, at);
    hash.update(piece);
    at += piece.length;
    onBytes?.(piece.length);
  };
  await eachPiece(file, { at: header.length, length: shard.length }, use, signal);
  const actual = hash.digest('hex');
  if (actual !== shard.sha256) {
    throw new DamagedCheckpoint(file.path, `has sha256 ${actual}, but the manifest says ${shard.sha256}`);
  }
}
