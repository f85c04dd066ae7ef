/** The handlers of a gRPC service as one kind of function, so that all of them can be put behind the same check. */
import type { EventEmitter } from 'node:events';
import type { ServerUnaryCall, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';

/** What all kinds of calls have in common. The request is there when it is one message. */
export interface AnyCall
  extends Pick<ServerUnaryCall<unknown, unknown>, 'getAuthContext' | 'getPeer'>,
    Pick<EventEmitter, 'on' | 'emit'> {
  readonly request?: unknown;
}

/** `reply` is there when the answer is one message. */
export type AnyHandler = (call: AnyCall, reply?: sendUnaryData<unknown>) => void;

export function handlersOf(implementation: UntypedServiceImplementation): ReadonlyMap<string, AnyHandler> {
  return new Map(Object.entries(implementation)) as unknown as ReadonlyMap<string, AnyHandler>;
}

export function implementationOf(handlers: ReadonlyMap<string, AnyHandler>): UntypedServiceImplementation {
  return Object.fromEntries(handlers) as unknown as UntypedServiceImplementation;
}
