/**
 * Checkpoints in an S3-compatible store. It cannot rename, so a draft's shards lie in the checkpoint's place from the start, under keys that no
 * other writer ever uses. The checkpoint is published if, and only if, its manifest is there: it is put last, in one request, and
 * deleted first.
 */
import { randomBytes } from 'node:crypto';
import { readManifest } from './checkpoint_reader.js';
import { DamagedCheckpoint, MissingCheckpoint, StorageFailure } from './errors.js';
import {
  checkpointName,
  isSaveId,
  MANIFEST_FILE,
  shardFile,
  shardOfFile,
  stepOfCheckpoint,
  taggedSave,
} from './names.js';
import type { S3Client } from './s3_client.js';
import { S3Layout } from './s3_layout.js';
import { abortUpload, deleteObject, listObjects, listUploads, openObject, type S3Object } from './s3_objects.js';
import { S3Publication } from './s3_publication.js';
import { S3FileWriter } from './s3_upload.js';
import type { Draft, FileReader, FileWriter, NewManifest, Storage } from './storage.js';
import type { VerifiedCheckpoint } from './verify.js';

const LEFT_OVER_MS = 3_600_000;

export class S3 implements Storage {
  readonly #layout: S3Layout;

  constructor(
    private readonly client: S3Client,
    /** Empty, or ends with a slash. */
    private readonly prefix: string,
    private readonly nowMs: () => number = Date.now,
  ) {
    this.#layout = new S3Layout(prefix);
  }

  pathOf(name: string): string {
    return this.client.urlOf(`${this.prefix}${name}`);
  }

  async list(): Promise<readonly string[]> {
    const objects = await listObjects(this.client, `${this.prefix}step-`);
    return [...this.#layout.byCheckpoint(objects)].flatMap(([name, files]) => (files.has(MANIFEST_FILE) ? [name] : []));
  }

  shardFile({ save }: Draft, shard: number, shards: number): string {
    if (!isSaveId(save)) throw new StorageFailure(`${JSON.stringify(save)} cannot be the id of a save`);
    return shardFile(shard, shards, { save, writer: randomBytes(6).toString('hex') });
  }

  async createShard(draft: Draft, file: string, bytes: number): Promise<FileWriter> {
    return new S3FileWriter(this.client, this.#layout.key(checkpointName(draft.step), file), bytes);
  }

  publish(draft: Draft, manifest: NewManifest, verify: () => Promise<VerifiedCheckpoint>): Promise<VerifiedCheckpoint> {
    const name = checkpointName(draft.step);
    const keyOf = (file: string): string => this.#layout.key(name, file);
    return new S3Publication(this.client, keyOf, manifest, verify).run();
  }

  openDraftFile({ step }: Draft, file: string): Promise<FileReader | undefined> {
    return openObject(this.client, this.#layout.key(checkpointName(step), file));
  }

  async discard({ step, save }: Draft): Promise<void> {
    const name = checkpointName(step);
    const objects = await listObjects(this.client, `${this.prefix}${name}/`);
    const files = this.#layout.byCheckpoint(objects).get(name) ?? new Map<string, S3Object>();
    const published = files.has(MANIFEST_FILE) ? await this.#filesOf(name) : new Set<string>();
    for (const [file, { key }] of files) {
      if (taggedSave(file) === save && !published.has(file)) await deleteObject(this.client, key);
    }
    await this.#abortUploads(`${this.prefix}${name}/`, (file) => taggedSave(file) === save);
  }

  async openFile(name: string, file: string): Promise<FileReader> {
    const key = this.#layout.key(name, file);
    const reader = await openObject(this.client, key);
    if (reader !== undefined) return reader;
    // Without the bucket this is a failure of another kind, and says nothing about the checkpoint.
    await listObjects(this.client, key);
    const url = this.client.urlOf(key);
    throw file === MANIFEST_FILE ? new MissingCheckpoint(url) : new DamagedCheckpoint(url, 'is missing');
  }

  async remove(name: string): Promise<void> {
    if (stepOfCheckpoint(name) === undefined) {
      throw new StorageFailure(`cannot remove ${this.pathOf(name)}: a checkpoint is called step-<9 digits>`);
    }
    await deleteObject(this.client, this.#layout.key(name, MANIFEST_FILE));
    const files = this.#layout.byCheckpoint(await listObjects(this.client, `${this.prefix}${name}/`)).get(name);
    for (const { key } of files?.values() ?? []) await deleteObject(this.client, key);
  }

  async tidy(draft: Draft): Promise<void> {
    // Left-overs are no failure of this save; what cannot be removed now is met again at the next one.
    await this.#tidyAll(draft).catch(() => undefined);
  }

  async #tidyAll({ save }: Draft): Promise<void> {
    const objects = await listObjects(this.client, `${this.prefix}step-`);
    for (const [name, files] of this.#layout.byCheckpoint(objects)) await this.#tidyOne(name, files, save);
    const isOld = (startedMs: number): boolean => this.nowMs() - startedMs >= LEFT_OVER_MS;
    await this.#abortUploads(`${this.prefix}step-`, (file, startedMs) => taggedSave(file) !== save && isOld(startedMs));
  }

  async #tidyOne(name: string, files: ReadonlyMap<string, S3Object>, save: string): Promise<void> {
    const old = [...files].filter(
      ([file, { changedMs }]) =>
        file !== MANIFEST_FILE && taggedSave(file) !== save && this.nowMs() - changedMs >= LEFT_OVER_MS,
    );
    if (old.length === 0 || hasNothingElse(files)) return;
    const published = files.has(MANIFEST_FILE) ? await this.#filesOf(name) : new Set<string>();
    for (const [file, { key }] of old) if (!published.has(file)) await deleteObject(this.client, key);
  }

  async #filesOf(name: string): Promise<ReadonlySet<string>> {
    const { manifest } = await readManifest(this, name);
    return new Set(manifest.shards.map(({ file }) => file));
  }

  async #abortUploads(prefix: string, isMeant: (file: string, startedMs: number) => boolean): Promise<void> {
    for (const { key, uploadId, startedMs } of await listUploads(this.client, prefix)) {
      const file = this.#layout.split(key)?.file;
      if (file !== undefined && isMeant(file, startedMs)) await abortUpload(this.client, key, uploadId);
    }
  }
}

/** A published checkpoint whose shards are as many as their names say has no left-overs among them. */
function hasNothingElse(files: ReadonlyMap<string, S3Object>): boolean {
  const shards = [...files.keys()].filter((file) => file !== MANIFEST_FILE);
  return files.has(MANIFEST_FILE) && shards.every((file) => shardOfFile(file)?.shards === shards.length);
}
