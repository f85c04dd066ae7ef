/** Authorities and certificates for tests, made as `lockstep certs` makes them, in a temporary folder. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  createAuthority,
  DAY_MS,
  type Subject,
  type Validity,
  validForDays,
} from '../shared/certificates/authority.js';
import { writeAuthority } from '../shared/certificates/folder.js';
import { makeCertificate } from '../shared/certificates/make.js';
import { type CredentialFiles, type Credentials, credentialFilesOf } from '../shared/identity/credential_files.js';
import type { Role } from '../shared/identity/identity.js';
import type { CredentialSource } from '../shared/identity/kept_credentials.js';

export function expired(): Validity {
  const nowMs = Date.now();
  return { fromMs: nowMs - 2 * DAY_MS, toMs: nowMs - DAY_MS };
}

export class TestAuthority {
  #made = 0;

  private constructor(readonly folder: string) {}

  static async make(): Promise<TestAuthority> {
    const folder = mkdtempSync(join(tmpdir(), 'lockstep-certificates-'));
    writeAuthority(folder, await createAuthority(validForDays(30)));
    return new TestAuthority(folder);
  }

  get ca(): string {
    return readFileSync(join(this.folder, 'ca.pem'), 'utf8');
  }

  /** A folder of its own for each that is asked for. */
  async folderOf(role: Role, name: string, validity?: Validity): Promise<string> {
    return this.folderFor({ kind: 'identity', identity: { role, name } }, validity);
  }

  async folderFor(subject: Subject, validity = validForDays(30)): Promise<string> {
    const folder = join(this.folder, `made-${++this.#made}`);
    await makeCertificate(this.folder, folder, subject, validity);
    return folder;
  }

  async filesOf(role: Role, name: string, validity?: Validity): Promise<CredentialFiles> {
    return credentialFilesOf(await this.folderOf(role, name, validity));
  }

  /** What the files hold, good or bad. */
  async credentialsOf(role: Role, name: string, validity?: Validity): Promise<Credentials> {
    const files = await this.filesOf(role, name, validity);
    const [ca, certificate, key] = [files.ca, files.certificate, files.key].map((file) => readFileSync(file, 'utf8'));
    return { ca: ca ?? '', certificate: certificate ?? '', key: key ?? '', identity: { role, name }, expiresMs: 0 };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Credentials that a test replaces when it likes. */
export class TestSource implements CredentialSource {
  readonly #listeners: ((credentials: Credentials) => void)[] = [];

  constructor(public current: Credentials) {}

  onChange(listener: (credentials: Credentials) => void): void {
    this.#listeners.push(listener);
  }

  replace(next: Credentials): void {
    this.current = next;
    for (const listener of this.#listeners) listener(next);
  }
}
