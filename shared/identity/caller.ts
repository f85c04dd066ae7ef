/** Who makes a gRPC call, as the server sees it. */
import type { ServerUnaryCall } from '@grpc/grpc-js';
import { type Identity, identityIn } from './identity.js';

/** What all kinds of calls have in common. */
export type IncomingCall = Pick<ServerUnaryCall<unknown, unknown>, 'getAuthContext' | 'getPeer'>;

/** Undefined without TLS, and for a certificate that names nobody. */
export function callerOf(call: IncomingCall): Identity | undefined {
  return identityIn(call.getAuthContext().sslPeerCertificate?.subjectaltname);
}
