/**
 * Credentials for grpc-js.
 *
 * Its own FileWatcherCertificateProvider is not used: while a file cannot be read, or the key does not fit the certificate, it lets nobody connect, and
 * it cannot ask for TLS 1.3 (docs/decisions/0015_who_is_who.md).
 */
import { createSecureContext } from 'node:tls';
import {
  type ChannelCredentials,
  type ChannelOptions,
  credentials as grpcCredentials,
  ServerCredentials,
} from '@grpc/grpc-js';
import type { Credentials } from './credential_files.js';
import type { Expected } from './identity.js';
import type { CredentialSource } from './kept_credentials.js';
import { checkedBy, contextOptions, MUTUAL_SERVER, ONE_SIDED_SERVER, SERVER_NAME } from './tls_options.js';

class KeptServerCredentials extends ServerCredentials {
  constructor(
    source: CredentialSource,
    clients: typeof MUTUAL_SERVER | typeof ONE_SIDED_SERVER,
    private readonly contextOf: (credentials: Credentials) => ReturnType<typeof contextOptions>,
  ) {
    super(clients, contextOf(source.current));
    source.onChange((credentials) => this.updateSecureContextOptions(this.contextOf(credentials)));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

/** For a server whose clients have certificates; without a source, for one that listens where only this machine can reach it. */
export function serverCredentials(source: CredentialSource | undefined): ServerCredentials {
  if (source === undefined) return ServerCredentials.createInsecure();
  return new KeptServerCredentials(source, MUTUAL_SERVER, contextOptions);
}

/** For a server whose clients have no certificates yet. It sends the authority's along, by whose digest they know it. */
export function joinServerCredentials(source: CredentialSource): ServerCredentials {
  return new KeptServerCredentials(source, ONE_SIDED_SERVER, (credentials) => ({
    ...contextOptions(credentials),
    cert: `${credentials.certificate}\n${credentials.ca}`,
  }));
}

/** For channels that are opened from now on. */
export function channelCredentials(credentials: Credentials | undefined, expected: Expected): ChannelCredentials {
  if (credentials === undefined) return grpcCredentials.createInsecure();
  const checkServerIdentity = checkedBy(expected);
  return grpcCredentials.createFromSecureContext(createSecureContext(contextOptions(credentials)), {
    checkServerIdentity,
  });
}

/** For somebody who has no certificate yet, and knows the authority's. */
export function joinChannelCredentials(ca: string): ChannelCredentials {
  const checkServerIdentity = checkedBy({ role: 'coordinator' });
  const context = createSecureContext({ ca, minVersion: MUTUAL_SERVER.minVersion });
  return grpcCredentials.createFromSecureContext(context, { checkServerIdentity });
}

/** Goes with channelCredentials, or without harm without them: an address is no name of a server, and Node says so on stderr. */
export const TLS_CHANNEL_OPTIONS: ChannelOptions = { 'grpc.ssl_target_name_override': SERVER_NAME };
