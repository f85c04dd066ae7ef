/** How an S3-compatible store is reached. */

export interface S3Options {
  /** "https://s3.eu-central-1.amazonaws.com" or "http://127.0.0.1:9000"; the bucket is the first part of the path. */
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of temporary credentials. */
  readonly sessionToken?: string | undefined;
  /** How long one request, of at most one part of a file, may take. */
  readonly requestTimeoutMs?: number | undefined;
  /** How often a request is made that gets no answer, or one that asks to try again. */
  readonly attempts?: number | undefined;
}

export interface S3Place {
  readonly bucket: string;
  /** Empty, or ends with a slash. */
  readonly prefix: string;
}

const SCHEME = 's3://';
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const PART = /^[A-Za-z0-9._=-]{1,255}$/;

export function isS3Url(folder: string): boolean {
  return folder.startsWith(SCHEME);
}

/** Undefined when it is not s3://bucket/prefix with plain characters. */
export function parseS3Url(url: string): S3Place | undefined {
  const [bucket = '', ...parts] = url.slice(SCHEME.length).replace(/\/$/, '').split('/');
  const arePlain = parts.every((part) => PART.test(part) && part !== '.' && part !== '..');
  if (!isS3Url(url) || !BUCKET.test(bucket) || !arePlain) return undefined;
  return { bucket, prefix: parts.map((part) => `${part}/`).join('') };
}
