/** TLS between workers: each shows the certificate of its own name, and takes nothing from, and gives nothing to, anybody but workers. */
import type { Http2Session } from 'node:http2';
import { createSecureContext, type SecureContextOptions, TLSSocket } from 'node:tls';
import type { Credentials } from '../../shared/identity/credential_files.js';
import { type Identity, identityIn } from '../../shared/identity/identity.js';
import { checkedBy, contextOptions, SERVER_NAME } from '../../shared/identity/tls_options.js';
import type { Security } from './http2/client_call.js';

export class PeerSecurity {
  #options: SecureContextOptions;
  #context: ReturnType<typeof createSecureContext>;

  constructor(credentials: Credentials) {
    this.#options = contextOptions(credentials);
    this.#context = createSecureContext(this.#options);
  }

  /** For connections that are made from now on. */
  replace(credentials: Credentials): void {
    this.#options = contextOptions(credentials);
    this.#context = createSecureContext(this.#options);
  }

  get serverOptions(): SecureContextOptions {
    return this.#options;
  }

  /** For a connection to the worker of this name. */
  clientFor(worker: string): Security {
    const checkServerIdentity = checkedBy({ role: 'worker', name: worker });
    return { secureContext: this.#context, checkServerIdentity, servername: SERVER_NAME };
  }
}

/** Who is at the other end of a connection that a server took; undefined for one without TLS. */
export function peerOf({ socket }: Http2Session): Identity | undefined {
  return socket instanceof TLSSocket ? identityIn(socket.getPeerCertificate().subjectaltname) : undefined;
}
