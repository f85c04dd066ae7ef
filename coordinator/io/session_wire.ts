/** How messages to workers become bytes: a message that goes to all workers of a job does so once. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import { SessionClient } from '../../shared/wire/services.js';
import { type CoordinatorMessage, coordinatorMessage } from '../../shared/wire/session.js';

const connectMethod = SessionClient.service['Connect'];
if (connectMethod === undefined) throw new Error('proto/session.proto has no Connect');

const serializeWire = connectMethod.responseSerialize;

/** The service as in proto/session.proto, but what is written to its streams are bytes already. */
export const sessionService: ServiceDefinition = {
  Connect: { ...connectMethod, responseSerialize: (bytes: Buffer) => bytes },
};

/** A start names every member and every part of a step, so its bytes grow with the roster; they are kept while the message is. */
const known = new WeakMap<CoordinatorMessage, Buffer>();

export function bytesOf(message: CoordinatorMessage): Buffer {
  const before = known.get(message);
  if (before !== undefined) return before;
  const bytes = serializeWire(coordinatorMessage.encode(message, 'CoordinatorMessage'));
  known.set(message, bytes);
  return bytes;
}
