/** Picks the kind of storage by what the place is called. */
import { dirname, isAbsolute, resolve } from 'node:path';
import { Directory } from './directory.js';
import { StorageFailure } from './errors.js';
import { type FileOperations, realFiles } from './file_operations.js';
import { S3 } from './s3.js';
import { S3Client } from './s3_client.js';
import { isS3Url, parseS3Url, type S3Options } from './s3_options.js';
import type { Storage } from './storage.js';

export interface StorageOptions {
  /** Needed for places that begin with s3:// only. */
  readonly s3?: S3Options | undefined;
  readonly files?: FileOperations | undefined;
}

/**
 * `folder`: an absolute path, or s3://bucket/prefix. Touches nothing yet. Throws StorageFailure for anything else. `signal` ends requests
 * that are under way; operations on files are short.
 */
export function openStorage(folder: string, options: StorageOptions = {}, signal?: AbortSignal): Storage {
  if (isS3Url(folder)) return openS3(folder, options.s3, signal);
  if (folder.includes('\0') || !isAbsolute(folder)) {
    throw new StorageFailure(
      `the folder for checkpoints is ${JSON.stringify(folder)}; it must be an absolute path or s3://bucket/prefix`,
    );
  }
  return new Directory(resolve(folder), options.files ?? realFiles);
}

/** The storage that a checkpoint lies in, and its name there. A path may be relative to the working directory. */
export function openCheckpoint(
  path: string,
  options: StorageOptions = {},
  signal?: AbortSignal,
): { readonly storage: Storage; readonly name: string } {
  const whole = isS3Url(path) ? path.replace(/\/+$/, '') : resolve(path);
  const slash = whole.lastIndexOf('/');
  const folder = isS3Url(path) ? whole.slice(0, slash) : dirname(whole);
  return { storage: openStorage(folder, options, signal), name: whole.slice(slash + 1) };
}

function openS3(url: string, options: S3Options | undefined, signal: AbortSignal | undefined): S3 {
  const place = parseS3Url(url);
  if (place === undefined) {
    throw new StorageFailure(
      `the place for checkpoints is ${JSON.stringify(url)}; it must be s3://bucket/prefix of letters, digits and . _ = -`,
    );
  }
  if (options === undefined) {
    throw new StorageFailure(`${url} needs an endpoint, a region and an access key; none are configured here`);
  }
  return new S3(new S3Client(options, place.bucket, signal), place.prefix);
}
