/** What is asked of a store about its objects. Keys have no slash in front. */
import { DamagedCheckpoint, StorageFailure } from './errors.js';
import type { S3Client } from './s3_client.js';
import { elements, textOf } from './s3_xml.js';
import type { FileReader } from './storage.js';

const MAX_PAGES = 1000;

export interface S3Object {
  readonly key: string;
  readonly changedMs: number;
}

export interface S3Upload {
  readonly key: string;
  readonly uploadId: string;
  readonly startedMs: number;
}

/** Undefined when there is no such object. */
export async function headOf(client: S3Client, key: string): Promise<{ bytes: number; etag: string } | undefined> {
  const answer = await client.request({ method: 'HEAD', key, accept: [404] });
  if (answer.status === 404) return undefined;
  const length = answer.headers.get('content-length');
  const etag = answer.headers.get('etag');
  if (length === null || etag === null) {
    throw new StorageFailure(`cannot read ${client.urlOf(key)}: the store's answer has no content-length or no etag`);
  }
  return { bytes: Number(length), etag };
}

export async function listObjects(client: S3Client, prefix: string): Promise<readonly S3Object[]> {
  const objects: S3Object[] = [];
  let token = '';
  for (let page = 0; page < MAX_PAGES; page++) {
    const query = { 'list-type': '2', prefix, ...(token === '' ? {} : { 'continuation-token': token }) };
    const xml = (await client.request({ method: 'GET', key: '', query })).body.toString('utf8');
    for (const entry of elements(xml, 'Contents')) {
      objects.push({ key: textOf(entry, 'Key'), changedMs: Date.parse(textOf(entry, 'LastModified')) });
    }
    token = textOf(xml, 'NextContinuationToken');
    if (textOf(xml, 'IsTruncated') !== 'true' || token === '') return objects;
  }
  throw new StorageFailure(`cannot list ${client.urlOf(prefix)}: there are more than ${MAX_PAGES} pages of objects`);
}

/** Multipart uploads that nobody has completed. A store that cannot list them has none, as far as we can tell. */
export async function listUploads(client: S3Client, prefix: string): Promise<readonly S3Upload[]> {
  const query = { uploads: '', prefix };
  const answer = await client.request({ method: 'GET', key: '', query, accept: [400, 405, 501] });
  if (answer.status !== 200) return [];
  return elements(answer.body.toString('utf8'), 'Upload').map((entry) => ({
    key: textOf(entry, 'Key'),
    uploadId: textOf(entry, 'UploadId'),
    startedMs: Date.parse(textOf(entry, 'Initiated')),
  }));
}

export async function deleteObject(client: S3Client, key: string): Promise<void> {
  await client.request({ method: 'DELETE', key, accept: [404] });
}

export async function abortUpload(client: S3Client, key: string, uploadId: string): Promise<void> {
  await client.request({ method: 'DELETE', key, query: { uploadId }, accept: [404] });
}

/** Undefined when there is no such object. */
export async function openObject(client: S3Client, key: string): Promise<FileReader | undefined> {
  const head = await headOf(client, key);
  return head === undefined ? undefined : new S3FileReader(client, key, head.bytes, head.etag);
}

class S3FileReader implements FileReader {
  constructor(
    private readonly client: S3Client,
    private readonly key: string,
    readonly bytes: number,
    /** What is read must be parts of one object, even if it is replaced meanwhile. */
    private readonly etag: string,
  ) {}

  get path(): string {
    return this.client.urlOf(this.key);
  }

  async read(target: Buffer, at: number): Promise<void> {
    if (target.length === 0) return;
    const answer = await this.client.request({
      method: 'GET',
      key: this.key,
      headers: { range: `bytes=${at}-${at + target.length - 1}`, 'if-match': this.etag },
      accept: [404, 412, 416],
      maxBytes: target.length,
    });
    if (answer.status === 416) throw new DamagedCheckpoint(this.path, `ends before byte ${at + target.length}`);
    if (answer.status >= 400)
      throw new StorageFailure(`cannot read ${this.path}: it was replaced or removed meanwhile`);
    if (answer.body.length !== target.length)
      throw new DamagedCheckpoint(this.path, `ends at byte ${at + answer.body.length}`);
    answer.body.copy(target);
  }

  async close(): Promise<void> {
    // Every read is a request of its own.
  }
}
