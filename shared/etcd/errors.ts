/** Every way in which etcd can fail us, one class each. `asEtcdFailure` is the only place that knows gRPC's and etcd's codes. */
import {
  ClientClosedError,
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  GRPCCancelledError,
  GRPCDeadlineExceededError,
  GRPCResourceExhastedError,
  GRPCUnauthenticatedError,
  GRPCUnavailableError,
} from 'etcd3';

/**
 * A call to etcd failed. `during` says what was asked. When `mayHaveHappened` is true a write may have been done all the
 * same: read it back before you believe otherwise.
 */
export abstract class EtcdFailure extends Error {
  abstract readonly mayHaveHappened: boolean;

  constructor(
    readonly during: string,
    problem: string,
    cause?: unknown,
  ) {
    super(`etcd, ${during}: ${problem}`, cause === undefined ? {} : { cause });
    this.name = new.target.name;
  }
}

/** No connection, the connection broke, or etcd has no leader of its own. */
export class EtcdUnavailable extends EtcdFailure {
  readonly mayHaveHappened = true;
}

/** No answer in time. */
export class EtcdTimedOut extends EtcdFailure {
  readonly mayHaveHappened = true;
}

/** The NOSPACE alarm is on: etcd refuses everything that needs space, a new lease too, until a person clears the alarm. */
export class EtcdOutOfSpace extends EtcdFailure {
  readonly mayHaveHappened = false;
}

/** The lease has expired or was revoked. */
export class EtcdLeaseLost extends EtcdFailure {
  readonly mayHaveHappened = false;
}

/** The revision that was asked for is compacted away: list again. */
export class EtcdCompacted extends EtcdFailure {
  readonly mayHaveHappened = false;
}

/** More bytes or operations than one request may have. */
export class EtcdTooLarge extends EtcdFailure {
  readonly mayHaveHappened = false;
}

/** Wrong or missing credentials, or no permission. */
export class EtcdNotAllowed extends EtcdFailure {
  readonly mayHaveHappened = false;
}

/** The client was closed before the call. */
export class EtcdClosed extends EtcdFailure {
  readonly mayHaveHappened = false;
}

/** Anything else: etcd or this code does what we did not expect. */
export class EtcdUnexpected extends EtcdFailure {
  readonly mayHaveHappened = true;
}

const outOfSpaceAdvice =
  'out of space (NOSPACE alarm): compact and defragment it, or raise its quota, then run `etcdctl alarm disarm`';

export function asEtcdFailure(error: unknown, during: string): EtcdFailure {
  if (error instanceof EtcdFailure) return error;
  const text = error instanceof Error ? error.message : String(error);
  // etcd answers several different things with one gRPC code, so its own words come first.
  if (text.includes('database space exceeded')) return new EtcdOutOfSpace(during, outOfSpaceAdvice, error);
  if (text.includes('revision has been compacted')) return new EtcdCompacted(during, text, error);
  if (/request is too large|too many operations|message larger than max/.test(text)) {
    return new EtcdTooLarge(during, text, error);
  }
  if (error instanceof EtcdLeaseInvalidError) return new EtcdLeaseLost(during, 'the lease is lost', error);
  if (error instanceof GRPCDeadlineExceededError) return new EtcdTimedOut(during, 'no answer in time', error);
  if (error instanceof GRPCUnavailableError || error instanceof GRPCCancelledError) {
    return new EtcdUnavailable(during, text, error);
  }
  // 'etcdserver: too many requests': it is behind, try again later.
  if (error instanceof GRPCResourceExhastedError) return new EtcdUnavailable(during, text, error);
  if (
    error instanceof EtcdPermissionDeniedError ||
    error instanceof EtcdAuthenticationFailedError ||
    error instanceof EtcdInvalidAuthTokenError ||
    error instanceof GRPCUnauthenticatedError
  ) {
    return new EtcdNotAllowed(during, text, error);
  }
  if (error instanceof ClientClosedError) return new EtcdClosed(during, 'the client is closed', error);
  return new EtcdUnexpected(during, text, error);
}
