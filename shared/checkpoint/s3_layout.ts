/** Which keys the files of checkpoints have. */
import { isFileOfCheckpoint, stepOfCheckpoint } from './names.js';
import type { S3Object } from './s3_objects.js';

export class S3Layout {
  constructor(
    /** Empty, or ends with a slash. */
    private readonly prefix: string,
  ) {}

  key(name: string, file: string): string {
    return `${this.prefix}${name}/${file}`;
  }

  /** Undefined when the key is not that of a checkpoint's file: then the object is not ours. */
  split(key: string): { readonly name: string; readonly file: string } | undefined {
    if (!key.startsWith(this.prefix)) return undefined;
    const [name = '', file = '', ...rest] = key.slice(this.prefix.length).split('/');
    const isOurs = stepOfCheckpoint(name) !== undefined && isFileOfCheckpoint(file) && rest.length === 0;
    return isOurs ? { name, file } : undefined;
  }

  /** By checkpoint's name and file's name; without what is not ours. */
  byCheckpoint(objects: readonly S3Object[]): ReadonlyMap<string, ReadonlyMap<string, S3Object>> {
    const checkpoints = new Map<string, Map<string, S3Object>>();
    for (const object of objects) {
      const place = this.split(object.key);
      if (place === undefined) continue;
      const files = checkpoints.get(place.name) ?? new Map<string, S3Object>();
      checkpoints.set(place.name, files.set(place.file, object));
    }
    return checkpoints;
  }
}
