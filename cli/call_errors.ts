/** What a failed call to a coordinator means. The only place of the command line that knows gRPC status codes. */
import { type ServiceError, status } from '@grpc/grpc-js';
import { printable } from '../shared/text/printable.js';
import { LEADER_KEY } from '../shared/wire/leader_key.js';
import { CliError, exitCodes } from './exit_codes.js';

export type CallFailure =
  /** Another coordinator leads; `address` is missing while none does. */
  | { readonly kind: 'not_leader'; readonly address: string | undefined }
  /** Nobody answers there. */
  | { readonly kind: 'unreachable'; readonly reason: string }
  | { readonly kind: 'too_late' }
  /** The one that leads cannot do it now. */
  | { readonly kind: 'not_now'; readonly reason: string }
  /** Asking again would not help. */
  | { readonly kind: 'final'; readonly error: CliError };

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'metadata' in error;
}

export function callFailure(error: unknown): CallFailure {
  if (!isServiceError(error)) throw error;
  const details = printable(error.details);
  switch (error.code) {
    case status.FAILED_PRECONDITION:
      return { kind: 'not_leader', address: error.metadata.get(LEADER_KEY)[0]?.toString() };
    case status.UNAVAILABLE:
      return withoutAnswer(details);
    case status.DEADLINE_EXCEEDED:
      return { kind: 'too_late' };
    case status.ABORTED:
      return { kind: 'not_now', reason: details };
    case status.INVALID_ARGUMENT:
    case status.ALREADY_EXISTS:
    case status.OUT_OF_RANGE:
      return { kind: 'final', error: new CliError(exitCodes.usage, details) };
    case status.NOT_FOUND:
      return { kind: 'final', error: new CliError(exitCodes.notFound, details) };
    case status.INTERNAL:
      if (isCutOff(details)) return { kind: 'unreachable', reason: 'it closed the connection' };
      return { kind: 'final', error: new CliError(exitCodes.jobFailed, details) };
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return { kind: 'final', error: new CliError(exitCodes.notAllowed, details) };
    default:
      return {
        kind: 'final',
        error: new CliError(exitCodes.jobFailed, `the coordinator answered ${status[error.code]}: ${details}`),
      };
  }
}

/** A coordinator that ends a connection, such as one that has not answered its pings, ends the calls first, and grpc-js calls that internal. */
function isCutOff(details: string): boolean {
  return /^Received RST_STREAM with code \d+ \(Call ended without gRPC status\)$/.test(details);
}

/** grpc-js wraps what the system or OpenSSL said in words of its own. */
function withoutAnswer(details: string): CallFailure {
  const refused = (message: string): CallFailure => ({
    kind: 'final',
    error: new CliError(exitCodes.notAllowed, message),
  });
  const unreachable = (reason: string): CallFailure => ({ kind: 'unreachable', reason });
  if (details.includes('alert certificate required')) {
    return refused('the cluster asks for a certificate; give --tls-dir or set LOCKSTEP_TLS');
  }
  const [, notBelieved] = /Last error: Error: (.*certificate.*?)\. Resolution note/.exec(details) ?? [];
  if (notBelieved !== undefined) return refused(`the coordinator is not believed: ${notBelieved}`);
  if (details.includes('wrong version number')) return unreachable('it speaks no TLS; is --tls-dir right?');
  if (details.includes('Last error: Failed to connect')) {
    return unreachable('it does not speak without TLS; give --tls-dir or set LOCKSTEP_TLS');
  }
  if (details.includes('Last error: read ECONNRESET')) {
    return unreachable('it closed the connection at once; with --tls-dir, it may not believe the certificate');
  }
  return unreachable(/connect E[A-Z]+ \S+?(?=\.? |$)/.exec(details)?.[0] ?? details);
}
