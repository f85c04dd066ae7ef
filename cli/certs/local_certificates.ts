/** The certificates of a cluster on this machine: an authority of its own, for as long as its folder lasts. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority, type Subject, validForDays } from '../../shared/certificates/authority.js';
import { writeAuthority } from '../../shared/certificates/folder.js';
import { makeCertificate } from '../../shared/certificates/make.js';
import { type CredentialFiles, credentialFilesOf, readCredentials } from '../../shared/identity/credential_files.js';
import type { CredentialSource } from '../../shared/identity/kept_credentials.js';
import { loginName } from '../login_name.js';

const DAYS = 365;
const ETCD = 'etcd-local';

export interface LocalSize {
  readonly workers: number;
  readonly coordinators: number;
}

export class LocalCertificates {
  /** Of the one who started the cluster. */
  readonly admin: CredentialSource;

  private constructor(
    private readonly folder: string,
    readonly adminFolder: string,
  ) {
    const current = readCredentials(credentialFilesOf(adminFolder));
    this.admin = { current, onChange: () => undefined };
  }

  /** In a folder where a cluster ran before, what is there is used again. */
  static async make(clusterFolder: string, { workers, coordinators }: LocalSize): Promise<LocalCertificates> {
    const folder = join(clusterFolder, 'tls');
    if (!existsSync(join(folder, 'ca.pem'))) writeAuthority(folder, await createAuthority(validForDays(DAYS)));
    await makeOne(folder, ETCD, { kind: 'etcd', name: 'local', addresses: ['127.0.0.1', 'localhost'] });
    const name = loginName()
      .replace(/[^A-Za-z0-9._-]|^[._-]/g, 'u')
      .slice(0, 63);
    const adminFolder = join(folder, 'user-admin');
    await makeOne(folder, 'user-admin', { kind: 'identity', identity: { role: 'admin', name } });
    for (let number = 1; number <= coordinators; number++) {
      const identity = { role: 'coordinator', name: `c${number}` } as const;
      await makeOne(folder, `coordinator-c${number}`, { kind: 'identity', identity });
    }
    for (let number = 1; number <= workers; number++) {
      const identity = { role: 'worker', name: `w${number}` } as const;
      await makeOne(folder, `worker-w${number}`, { kind: 'identity', identity });
    }
    return new LocalCertificates(folder, adminFolder);
  }

  /** What a daemon's configuration says of them. A coordinator lets others join. */
  sectionOf(daemon: string, name: string): Readonly<Record<string, unknown>> {
    const files = this.#filesOf(`${daemon}-${name}`);
    if (daemon !== 'coordinator') return { tls: files };
    return { tls: { ...files, ca_key: join(this.folder, 'ca.key') }, join_listen: '127.0.0.1:0' };
  }

  get etcdArguments(): readonly string[] {
    const { ca, certificate, key } = this.#filesOf(ETCD);
    return ['', 'peer-'].flatMap((prefix) => [
      `--${prefix}cert-file=${certificate}`,
      `--${prefix}key-file=${key}`,
      `--${prefix}trusted-ca-file=${ca}`,
      `--${prefix}client-cert-auth`,
    ]);
  }

  #filesOf(one: string): CredentialFiles {
    return credentialFilesOf(join(this.folder, one));
  }
}

async function makeOne(folder: string, one: string, subject: Subject): Promise<void> {
  const path = join(folder, one);
  if (existsSync(join(path, 'cert.pem'))) return;
  await makeCertificate(folder, path, subject, validForDays(DAYS));
}
