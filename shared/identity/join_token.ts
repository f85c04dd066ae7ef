/**
 * A join token: for whom it is, by which digest the joiner knows the cluster's authority, and a secret of which the cluster keeps only the digest.
 *
 *     lockstep-join:w1:<43 characters: SHA-256 of the authority's certificate>:<43 characters: the secret>
 */
import { createHash, randomBytes } from 'node:crypto';
import { NAME_PATTERN } from '../name.js';

export interface JoinToken {
  readonly worker: string;
  readonly authority: Buffer;
  readonly secret: Buffer;
}

const SECRET_BYTES = 32;
const TOKEN = new RegExp(`^lockstep-join:(${NAME_PATTERN}):([\\w-]{43}):([\\w-]{43})$`);

export function newJoinToken(worker: string, authority: Buffer): JoinToken {
  return { worker, authority, secret: randomBytes(SECRET_BYTES) };
}

export function joinTokenText({ worker, authority, secret }: JoinToken): string {
  return `lockstep-join:${worker}:${authority.toString('base64url')}:${secret.toString('base64url')}`;
}

/** Undefined for a text that is no token. */
export function parseJoinToken(text: string): JoinToken | undefined {
  const [, worker, authority, secret] = TOKEN.exec(text) ?? [];
  if (worker === undefined || authority === undefined || secret === undefined) return undefined;
  return { worker, authority: Buffer.from(authority, 'base64url'), secret: Buffer.from(secret, 'base64url') };
}

/** By which the cluster finds the token again. */
export function secretDigest({ secret }: JoinToken): string {
  return createHash('sha256').update(secret).digest('hex');
}
