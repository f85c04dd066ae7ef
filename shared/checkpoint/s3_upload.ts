/** Uploads one object: whole if it is short, in parts if it is long. What the store then has is read back before it counts. */
import { createHash } from 'node:crypto';
import { StorageFailure } from './errors.js';
import { eachPiece } from './pieces.js';
import type { S3Client } from './s3_client.js';
import { abortUpload, deleteObject, openObject } from './s3_objects.js';
import { escaped, textOf } from './s3_xml.js';
import type { FileWriter } from './storage.js';

const MIB = 2 ** 20;
/** S3 takes parts from 5 MiB on, and at most 10,000 of them. */
const SMALLEST_PART_BYTES = 8 * MIB;
const MAX_PARTS = 10_000;

export class S3FileWriter implements FileWriter {
  readonly #partBytes: number;
  readonly #buffers: [Buffer<ArrayBuffer>, Buffer<ArrayBuffer>];
  readonly #etags: string[] = [];
  /** Bytes in the first of the buffers; the second one is being uploaded. */
  #filled = 0;
  #uploading: Promise<void> | undefined;
  #appending: Promise<void> | undefined;
  #uploadId: string | undefined;

  constructor(
    private readonly client: S3Client,
    private readonly key: string,
    bytes: number,
  ) {
    this.#partBytes = Math.max(SMALLEST_PART_BYTES, Math.ceil(bytes / MAX_PARTS / MIB) * MIB);
    const buffer = (): Buffer<ArrayBuffer> => Buffer.allocUnsafeSlow(Math.min(this.#partBytes, bytes));
    this.#buffers = [buffer(), bytes > this.#partBytes ? buffer() : Buffer.alloc(0)];
  }

  write(piece: Buffer): Promise<void> {
    const appended = (this.#appending ?? Promise.resolve()).then(() => this.#append(piece));
    this.#appending = appended;
    return appended;
  }

  async #append(piece: Buffer): Promise<void> {
    for (let done = 0; done < piece.length; ) {
      if (this.#filled === this.#buffers[0].length) await this.#startPart();
      const count = piece.copy(this.#buffers[0], this.#filled, done);
      this.#filled += count;
      done += count;
    }
  }

  async finish(sha256: string): Promise<void> {
    if (this.#uploadId === undefined) {
      const body = this.#buffers[0].subarray(0, this.#filled);
      await this.client.request({ method: 'PUT', key: this.key, body });
    } else {
      await this.#startPart();
      await this.#uploading;
      await this.#complete(this.#uploadId);
    }
    await this.#readBack(sha256);
  }

  async abandon(): Promise<void> {
    const client = this.client.forCleaningUp();
    await this.#uploading?.catch(() => undefined);
    if (this.#uploadId !== undefined) await abortUpload(client, this.key, this.#uploadId).catch(() => undefined);
    await deleteObject(client, this.key).catch(() => undefined);
  }

  /** Uploads the full buffer while the other one is filled. */
  async #startPart(): Promise<void> {
    await this.#uploading;
    this.#uploadId ??= await this.#begin();
    const body = this.#buffers[0].subarray(0, this.#filled);
    this.#buffers.reverse();
    this.#filled = 0;
    this.#uploading = this.#uploadPart(this.#uploadId, body);
    // Whoever awaits it hears of the failure.
    this.#uploading.catch(() => undefined);
  }

  async #begin(): Promise<string> {
    const answer = await this.client.request({ method: 'POST', key: this.key, query: { uploads: '' } });
    const uploadId = textOf(answer.body.toString('utf8'), 'UploadId');
    if (uploadId === '')
      throw new StorageFailure(`cannot upload ${this.client.urlOf(this.key)}: the store gave no upload id`);
    return uploadId;
  }

  async #uploadPart(uploadId: string, body: Buffer<ArrayBuffer>): Promise<void> {
    const number = this.#etags.length + 1;
    const query = { partNumber: String(number), uploadId };
    const { headers } = await this.client.request({ method: 'PUT', key: this.key, query, body });
    this.#etags.push(headers.get('etag') ?? '');
  }

  async #complete(uploadId: string): Promise<void> {
    const parts = this.#etags.map(
      (etag, index) => `<Part><PartNumber>${index + 1}</PartNumber><ETag>${escaped(etag)}</ETag></Part>`,
    );
    const body = Buffer.from(`<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`);
    // 404: an earlier attempt, whose answer was lost, has completed it. Or not, which the read back shows.
    await this.client.request({ method: 'POST', key: this.key, query: { uploadId }, body, accept: [404] });
  }

  async #readBack(sha256: string): Promise<void> {
    const url = this.client.urlOf(this.key);
    const object = await openObject(this.client, this.key);
    if (object === undefined) throw new StorageFailure(`cannot upload ${url}: the store took it, but does not have it`);
    const hash = createHash('sha256');
    await eachPiece(object, { at: 0, length: object.bytes }, (piece) => void hash.update(piece));
    const actual = hash.digest('hex');
    if (actual === sha256) return;
    throw new StorageFailure(
      `cannot upload ${url}: read back, it has ${object.bytes} bytes with sha256 ${actual} instead of ${sha256}; the store is faulty`,
    );
  }
}
