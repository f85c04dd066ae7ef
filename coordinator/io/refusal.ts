/** How gRPC calls are refused. */
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { LEADER_KEY } from '../../shared/wire/leader_key.js';

export type Refusal = Pick<ServiceError, 'code' | 'details' | 'metadata' | 'name' | 'message'>;

export function refusal(code: status, details: string, metadata = new Metadata()): Refusal {
  return { name: 'Refusal', message: details, code, details, metadata };
}

/** This coordinator stands by; whoever asked is told who leads, if anybody does. */
export function notLeading(leader: string | undefined): Refusal {
  const metadata = new Metadata();
  if (leader !== undefined) metadata.set(LEADER_KEY, leader);
  return refusal(status.FAILED_PRECONDITION, 'this coordinator does not lead', metadata);
}

/** Thrown where a call is handled, and answered with by whoever catches it. */
export class Refused extends Error {
  constructor(readonly refusal: Refusal) {
    super(refusal.details);
  }
}

export function refused(code: status, details: string): Refused {
  return new Refused(refusal(code, details));
}
