/** Who attacks a cluster with certificates: members of the lowest roles, and those whom it must not know. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, type SecureContext } from 'node:tls';
import { validForDays } from '../../shared/certificates/authority.js';
import { makeCertificate } from '../../shared/certificates/make.js';
import { type Credentials, credentialFilesOf, readCredentials } from '../../shared/identity/credential_files.js';
import type { Role } from '../../shared/identity/identity.js';
import { contextOptions } from '../../shared/identity/tls_options.js';
import { expired, TestAuthority } from '../certificates.js';
import type { FaultCluster } from '../faults/fault_cluster.js';

/** Of a worker that the cluster's authority knows, and that does not run. */
export const ABSENT_WORKER = 'w9';

export interface Stranger {
  readonly what: string;
  readonly context: SecureContext;
}

export interface Attackers {
  readonly viewer: Credentials;
  readonly worker: Credentials;
  /** Nobody of these gets past the handshake. */
  readonly strangers: readonly Stranger[];
  /** For whoever has no certificate yet. */
  readonly nobody: SecureContext;
}

export function contextOf(credentials: Credentials): SecureContext {
  return createSecureContext(contextOptions(credentials));
}

export async function makeAttackers(cluster: FaultCluster): Promise<Attackers> {
  const folder = cluster.tlsFolder;
  const made = async (role: Role, name: string, validity = validForDays(1)): Promise<Credentials> => {
    const path = join(folder, `attacker-${role}-${name}`);
    await makeCertificate(folder, path, { kind: 'identity', identity: { role, name } }, validity);
    return readCredentials(credentialFilesOf(path));
  };
  const [viewer, worker] = [await made('viewer', 'looker'), await made('worker', ABSENT_WORKER)];
  const other = await TestAuthority.make();
  try {
    const nobody = createSecureContext({ ca: viewer.ca });
    const foreign = await other.credentialsOf('admin', 'admin');
    const old = contextOptions(viewer);
    const strangers = [
      { what: 'without a certificate', context: nobody },
      { what: 'of another authority', context: contextOf(foreign) },
      { what: 'that has expired', context: await expiredContext(cluster) },
      {
        what: 'that speaks TLS 1.2',
        context: createSecureContext({ ...old, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }),
      },
    ];
    return { viewer, worker, strangers, nobody };
  } finally {
    other.remove();
  }
}

/** Not through readCredentials, which would refuse it here. */
async function expiredContext({ tlsFolder }: FaultCluster): Promise<SecureContext> {
  const path = join(tlsFolder, 'attacker-expired');
  const subject = { kind: 'identity', identity: { role: 'admin', name: 'old' } } as const;
  await makeCertificate(tlsFolder, path, subject, expired());
  const files = credentialFilesOf(path);
  const [ca, cert, key] = [files.ca, files.certificate, files.key].map((file) => readFileSync(file, 'utf8'));
  return createSecureContext({ ca, cert, key });
}
