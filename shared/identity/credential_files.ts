/** The three files by which a process proves who it is and knows the others: read, and checked before they are used. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { type Expected, type Identity, identityIn, mismatch } from './identity.js';

/** Paths of PEM files. */
export interface CredentialFiles {
  /** Certificates of the authorities that are trusted; one, but for the time in which it is replaced. */
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** What the files hold, checked. */
export interface Credentials {
  /** PEM. */
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  readonly identity: Identity;
  /** Milliseconds since 1970. */
  readonly expiresMs: number;
}

/** Files cannot be used. The message is one line that names the file and what is wrong with it. */
export class CredentialError extends Error {
  override readonly name = 'CredentialError';
}

/** Relative paths are below the folder that systemd made for the daemon's credentials, or else below that of its configuration file. */
export function credentialFilesIn(files: CredentialFiles, folder: string): CredentialFiles {
  const found = (path: string): string => (isAbsolute(path) ? path : join(folder, path));
  return { ca: found(files.ca), certificate: found(files.certificate), key: found(files.key) };
}

/** Those that `lockstep certs` leaves in a folder of its own for each identity. */
export function credentialFilesOf(folder: string): CredentialFiles {
  return { ca: join(folder, 'ca.pem'), certificate: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
}

/** Throws a CredentialError. */
export function readCredentials(files: CredentialFiles, expected?: Expected, nowMs = Date.now()): Credentials {
  const [ca, certificate, key] = [files.ca, files.certificate, files.key].map(readText);
  if (ca === undefined || certificate === undefined || key === undefined) throw new Error('three files were read');
  const authorities = certificatesIn(files.ca, ca);
  const [own] = certificatesIn(files.certificate, certificate);
  if (own === undefined) throw new CredentialError(`${files.certificate}: holds no certificate`);
  if (!own.checkPrivateKey(privateKeyIn(files.key, key))) {
    throw new CredentialError(`${files.key}: is not the key of the certificate in ${files.certificate}`);
  }
  if (!authorities.some((authority) => own.checkIssued(authority) && own.verify(authority.publicKey))) {
    throw new CredentialError(`${files.certificate}: was not made by the authority in ${files.ca}`);
  }
  const problem = expected === undefined ? undefined : mismatch(own.subjectAltName, expected);
  if (problem !== undefined) throw new CredentialError(`${files.certificate}: ${problem}`);
  const identity = identityIn(own.subjectAltName);
  if (identity === undefined) throw new CredentialError(`${files.certificate}: names no role of Lockstep`);
  const expiresMs = Date.parse(own.validTo);
  if (nowMs >= expiresMs) throw new CredentialError(`${files.certificate}: has expired (${own.validTo})`);
  if (nowMs < Date.parse(own.validFrom)) {
    throw new CredentialError(`${files.certificate}: is not valid before ${own.validFrom}; check the clock`);
  }
  return { ca, certificate, key, identity, expiresMs };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new CredentialError(`${path}: cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function certificatesIn(path: string, pem: string): readonly X509Certificate[] {
  const blocks = pem.match(CERTIFICATE) ?? [];
  if (blocks.length === 0) throw new CredentialError(`${path}: holds no certificate in PEM form`);
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch {
    throw new CredentialError(`${path}: holds a certificate that cannot be read`);
  }
}

function privateKeyIn(path: string, pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new CredentialError(`${path}: holds no private key that can be read`);
  }
}
