/** What a failed call to a coordinator means. The only place of the command line that knows gRPC status codes. */
import { type ServiceError, status } from '@grpc/grpc-js';
import { printable } from '../shared/text/printable.js';
import { CliError, exitCodes } from './exit_codes.js';

/** Metadata key by which a coordinator that does not lead names the one that does. */
const LEADER_KEY = 'lockstep-leader';

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
      // grpc-js wraps what the system said in words of its own.
      return { kind: 'unreachable', reason: /connect E[A-Z]+ \S+?(?=\.? |$)/.exec(details)?.[0] ?? details };
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
