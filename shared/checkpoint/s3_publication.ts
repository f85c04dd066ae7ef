/**
 * Puts the manifest that makes a checkpoint of the shards in a store. Others may do the same at the same time; it is put on the condition
 * that what is there is still what was looked at.
 */
import { DamagedCheckpoint, StorageFailure } from './errors.js';
import { MANIFEST_FILE } from './names.js';
import { mustNotBeOlder } from './newer_save.js';
import type { S3Client } from './s3_client.js';
import { deleteObject, headOf, openObject } from './s3_objects.js';
import type { NewManifest } from './storage.js';
import type { VerifiedCheckpoint } from './verify.js';

const MAX_ATTEMPTS = 4;

export class S3Publication {
  readonly #key: string;

  constructor(
    private readonly client: S3Client,
    private readonly keyOf: (file: string) => string,
    private readonly manifest: NewManifest,
    private readonly verify: () => Promise<VerifiedCheckpoint>,
  ) {
    this.#key = keyOf(MANIFEST_FILE);
  }

  async run(): Promise<VerifiedCheckpoint> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const there = await headOf(this.client, this.#key);
      const same = there === undefined ? undefined : await this.#sameState();
      if (same !== undefined) return same;
      await this.#checkShards();
      if (await this.#put(there?.etag)) return await this.#readBack();
    }
    throw new StorageFailure(`cannot publish ${this.client.urlOf(this.#key)}: others keep publishing it too`);
  }

  /** Undefined when what is there is damaged, or another state. */
  async #sameState(): Promise<VerifiedCheckpoint | undefined> {
    try {
      const checkpoint = await this.verify();
      if (checkpoint.manifest.stateSha256 === this.manifest.stateSha256) return checkpoint;
      mustNotBeOlder(this.client.urlOf(this.#key), this.manifest, checkpoint);
      return undefined;
    } catch (error) {
      if (error instanceof DamagedCheckpoint) return undefined;
      throw error;
    }
  }

  async #checkShards(): Promise<void> {
    for (const { file, bytes } of this.manifest.files) {
      const url = this.client.urlOf(this.keyOf(file));
      const there = await headOf(this.client, this.keyOf(file));
      if (there === undefined)
        throw new StorageFailure(`cannot publish: ${url} is missing; it was abandoned or removed`);
      if (there.bytes !== bytes)
        throw new StorageFailure(`cannot publish: ${url} has ${there.bytes} bytes, not ${bytes}`);
    }
  }

  /** False when what is there is not any more what has this etag, or undefined: nothing. */
  async #put(etag: string | undefined): Promise<boolean> {
    const condition: Record<string, string> = etag === undefined ? { 'if-none-match': '*' } : { 'if-match': etag };
    const put = { method: 'PUT', key: this.#key, body: this.manifest.text } as const;
    const answer = await this.client.request({ ...put, headers: condition, accept: [404, 409, 412, 501] });
    // The store knows no conditions.
    if (answer.status === 501) return (await this.client.request(put)).status < 300;
    return answer.status < 300;
  }

  async #readBack(): Promise<VerifiedCheckpoint> {
    try {
      const checkpoint = await this.verify();
      if (checkpoint.manifest.stateSha256 === this.manifest.stateSha256) return checkpoint;
      throw new DamagedCheckpoint(this.client.urlOf(this.#key), 'was replaced by that of another save');
    } catch (error) {
      if (error instanceof DamagedCheckpoint) await this.#withdraw();
      throw error;
    }
  }

  /** Takes back what is not whole, unless it is another's by now. */
  async #withdraw(): Promise<void> {
    const { text } = this.manifest;
    const object = await openObject(this.client, this.#key);
    if (object?.bytes !== text.length) return;
    const there = Buffer.alloc(object.bytes);
    await object.read(there, 0);
    if (there.equals(text)) await deleteObject(this.client, this.#key);
  }
}
