/**
 * How a job names its code: `sha256:` and the digest of an archive that was uploaded, or the absolute path of a folder that all
 * workers see. The cores pass it on as it is.
 */

const PACKED = /^sha256:([0-9a-f]{64})$/;
const MAX_PATH_LENGTH = 4096;

export const SHA256_HEX = /^[0-9a-f]{64}$/;

export function packedReference(sha256: string): string {
  return `sha256:${sha256}`;
}

/** Digest of the archive, or undefined where the reference is the path of a folder. */
export function sha256OfReference(reference: string): string | undefined {
  return PACKED.exec(reference)?.[1];
}

/** What is wrong with a reference that came from elsewhere, or undefined. */
export function problemOfReference(reference: string): string | undefined {
  if (sha256OfReference(reference) !== undefined) return undefined;
  if (/^\/[^\0]*$/.test(reference) && reference.length <= MAX_PATH_LENGTH) return undefined;
  return 'must be an absolute path, or sha256: and the digest of an uploaded archive';
}
