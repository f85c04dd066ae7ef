/**
 * Where `lockstep certs` keeps what it makes. A folder of the authority:
 *
 *     ca.pem  ca.key                            the authority
 *     worker-w1/ca.pem  cert.pem  key.pem       all that one machine or person needs: this folder, and nothing else, is carried to it
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { credentialFilesOf } from '../identity/credential_files.js';
import type { Authority } from './authority.js';
import { CertificateError } from './openssl.js';

const PRIVATE_FOLDER = 0o700;
const PUBLIC = 0o644;
const PRIVATE = 0o600;

export function authorityFilesIn(folder: string): { readonly certificate: string; readonly key: string } {
  return { certificate: join(folder, 'ca.pem'), key: join(folder, 'ca.key') };
}

export function readAuthority(folder: string): Authority {
  const files = authorityFilesIn(folder);
  return { certificate: readOrRefuse(files.certificate), key: readOrRefuse(files.key) };
}

function readOrRefuse(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    throw new CertificateError(
      `${path} cannot be read; name the authority's folder with --dir, or make one: certs init`,
    );
  }
}

/** Makes the folder, or takes one in which there is no authority yet. */
export function writeAuthority(folder: string, { certificate, key }: Authority): void {
  mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER });
  const files = authorityFilesIn(folder);
  writeNew(files.key, key, PRIVATE);
  writeNew(files.certificate, certificate, PUBLIC);
}

/** Makes the folder. Throws if nothing could be written there: for whoever wants to know before he asks for a certificate. */
export function mustTakeIdentity(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER });
  const { ca, certificate, key } = credentialFilesOf(folder);
  const there = [key, certificate, ca].find((path) => existsSync(path));
  if (there !== undefined) throw isInUse(there);
  mustTakeCertificate(folder);
}

/** The same of a folder whose certificate is to be replaced. */
export function mustTakeCertificate(folder: string): void {
  accessSync(folder, constants.W_OK);
}

/** Refuses a folder that is there: what is in it may be in use. */
export function writeIdentity(
  folder: string,
  { ca, certificate, key }: { readonly ca: string; readonly certificate: string; readonly key: string },
): void {
  const files = credentialFilesOf(folder);
  mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER });
  writeNew(files.key, key, PRIVATE);
  writeNew(files.certificate, certificate, PUBLIC);
  writeNew(files.ca, ca, PUBLIC);
}

/** The new file takes the place of the old one at once, so that nobody ever reads half of one. */
export function replaceCertificate(folder: string, certificate: string): void {
  const { certificate: path } = credentialFilesOf(folder);
  const next = `${path}.new`;
  rmSync(next, { force: true });
  writeNew(next, certificate, PUBLIC);
  renameSync(next, path);
}

function isInUse(path: string): CertificateError {
  return new CertificateError(`${path} is there already, and may be in use; renew it, or name another folder`);
}

function writeNew(path: string, text: string, mode: number): void {
  let fd: number;
  try {
    fd = openSync(path, 'wx', mode);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') {
      throw isInUse(path);
    }
    throw new CertificateError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
