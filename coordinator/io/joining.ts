/** The port where new machines get their first certificate, on a coordinator that has the authority's key. */
import { readFileSync } from 'node:fs';
import { type Authority, fingerprintOf } from '../../shared/certificates/authority.js';
import { ConfigError } from '../../shared/config.js';
import { joinServerCredentials } from '../../shared/identity/grpc_credentials.js';
import type { CredentialSource } from '../../shared/identity/kept_credentials.js';
import { authorityKeyProblem } from './authority_key.js';
import { listenForGrpc } from './grpc_port.js';
import { JOIN_CONNECTIONS, type JoinServiceOptions, joinServer } from './join_service.js';

export interface JoiningOptions extends Omit<JoinServiceOptions, 'authority'> {
  readonly credentials: CredentialSource;
  /** Path of the authority's key. */
  readonly caKey: string;
  /** host:port */
  readonly address: string;
}

export interface Joining {
  readonly port: number;
  /** Digest of the authority's certificate. */
  readonly fingerprint: () => Buffer;
  close(): void;
}

/** Throws a ConfigError if the key cannot be used, or an error if the port cannot. */
export async function startJoining({ credentials, caKey, address, ...options }: JoiningOptions): Promise<Joining> {
  // While an authority is replaced there are several; the first is the one that signs.
  const authority = (): Authority => ({ certificate: credentials.current.ca, key: readFileSync(caKey, 'utf8') });
  const problem = authorityKeyProblem(credentials.current.ca, caKey);
  if (problem !== undefined) throw new ConfigError(`tls.ca_key: ${caKey}: ${problem}`);
  const server = joinServer({ ...options, authority });
  const port = await listenForGrpc(server, address, joinServerCredentials(credentials), JOIN_CONNECTIONS);
  const close = (): void => {
    port.close();
    server.forceShutdown();
  };
  return { port: port.port, fingerprint: () => fingerprintOf(credentials.current.ca), close };
}
