/** How TLS is spoken here: version 1.3, both ends with a certificate of the cluster's authority, and the other end checked by role and name. */
import type { SecureContextOptions, SecureVersion } from 'node:tls';
import type { Credentials } from './credential_files.js';
import { type Expected, mismatch } from './identity.js';

const VERSION: SecureVersion = 'TLSv1.3';
/** Whoever has not finished the handshake by then is cut off. */
const HANDSHAKE_MS = 10_000;

/** What a context is made of. */
export function contextOptions({ ca, certificate, key }: Credentials): SecureContextOptions {
  return { ca, cert: certificate, key, minVersion: VERSION };
}

/** Of a server that refuses the handshake of everybody without a certificate of the authority. */
export const MUTUAL_SERVER = {
  requestCert: true,
  rejectUnauthorized: true,
  minVersion: VERSION,
  handshakeTimeout: HANDSHAKE_MS,
} as const;

/** Of a server that anybody may talk to. */
export const ONE_SIDED_SERVER = { ...MUTUAL_SERVER, requestCert: false, rejectUnauthorized: false } as const;

/** Sent as the server's name; a certificate is not compared with it. */
export const SERVER_NAME = 'cluster.lockstep';

/** In the certificate of every member of etcd: by it they are known, whatever their addresses are. */
export const ETCD_NAME = 'etcd.lockstep';

/** In the place of the comparison of host names, so that certificates need no addresses. */
export function checkedBy(
  expected: Expected,
): (hostname: string, certificate: { readonly subjectaltname?: string | undefined }) => Error | undefined {
  return (_hostname, { subjectaltname }) => {
    const problem = mismatch(subjectaltname, expected);
    return problem === undefined ? undefined : new Error(problem);
  };
}
