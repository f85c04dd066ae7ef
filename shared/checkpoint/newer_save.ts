/**
 * A publisher that was frozen, or whose engine is gone, may wake long after its save was given up, and after the job has begun anew and
 * saved the same step: then what it has is of another history, and must not take the place of what counts.
 */
import { StorageFailure } from './errors.js';
import type { NewManifest } from './storage.js';
import type { VerifiedCheckpoint } from './verify.js';

/** Throws if `there`, which is whole and holds another state, is of a later save. A clock that was set back costs a save, and no checkpoint. */
export function mustNotBeOlder(
  where: string,
  { createdMs }: Pick<NewManifest, 'createdMs'>,
  { manifest: { description } }: VerifiedCheckpoint,
): void {
  if (description.createdMs <= createdMs) return;
  throw new StorageFailure(`cannot publish ${where}: a newer save has published another state there`);
}
