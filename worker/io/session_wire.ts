/** How messages to the coordinator become bytes: several that are ready together are sent as one. */
import { makeClientConstructor } from '@grpc/grpc-js';
import { SessionClient } from '../../shared/wire/services.js';
import { type WorkerMessage, workerMessage } from '../../shared/wire/session.js';

const connectMethod = SessionClient.service['Connect'];
if (connectMethod === undefined) throw new Error('proto/session.proto has no Connect');

const serializeWire = connectMethod.requestSerialize;

/** The stub of proto/session.proto, but what is written to its streams are bytes already. */
export const SessionStub = makeClientConstructor(
  { Connect: { ...connectMethod, requestSerialize: (bytes: Buffer) => bytes } },
  'lockstep.session.Session',
);

/** A message alone. Such bytes one after the other are all of the messages: the lists of protobuf grow by what follows. */
export function bytesOf(message: WorkerMessage): Buffer {
  return serializeWire({ messages: [workerMessage.encode(message, 'WorkerMessage')] });
}
