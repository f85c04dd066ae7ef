/** The port of the gRPC services, and its limits: many times what a cluster of 1,000 workers needs (docs/limits.md). */
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import type { Server, ServerCredentials, ServerOptions } from '@grpc/grpc-js';
import { bareHostOf, portOf } from '../../shared/address.js';
import { type ConnectionLimits, limitConnections } from '../../shared/connection_limit.js';
import { requestDeadline } from './request_deadline.js';

/** A worker has one, a second while it fetches code, and a third while an old one is not known to be dead. */
const CONNECTIONS: ConnectionLimits = { inAll: 8_192, perAddress: 4_096 };
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** Calls at the same time on one connection. */
const MAX_STREAMS = 100;
/** A connection without a call is closed after so long; whoever had it opens another one. */
const IDLE_MS = 60_000;
/** A connection that does not answer a ping in time, also one that does not speak HTTP/2, is closed. */
const PING_EVERY_MS = 2_000;
const PING_TIMEOUT_MS = 2_000;
/** Of a request that is one message. */
const REQUEST_MS = 10_000;

export const GRPC_SERVER_OPTIONS: ServerOptions = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_concurrent_streams': MAX_STREAMS,
  'grpc.max_connection_idle_ms': IDLE_MS,
  'grpc.keepalive_time_ms': PING_EVERY_MS,
  'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
  interceptors: [requestDeadline(REQUEST_MS)],
};

export interface GrpcPort {
  readonly port: number;
  /** Ends the connection of a peer, as grpc-js names it: there is no other way to end a call that does not read. */
  drop(peer: string): void;
  /** No new connections. */
  close(): void;
}

/** Listens on host:port itself, because grpc-js cannot count connections. */
export function listenForGrpc(
  server: Server,
  address: string,
  credentials: ServerCredentials,
  limits = CONNECTIONS,
): Promise<GrpcPort> {
  const injector = server.createConnectionInjector(credentials);
  const listener: NetServer = createServer({ noDelay: true });
  limitConnections(listener, limits);
  const sockets = new Map<string, Socket>();
  listener.on('connection', (socket) => {
    if (socket.destroyed) return;
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    sockets.set(peer, socket);
    socket.once('close', () => sockets.delete(peer));
    injector.injectConnection(socket);
  });
  const drop = (peer: string): void => void sockets.get(peer)?.destroy();
  return new Promise((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(portOf(address), bareHostOf(address), () => {
      listener.off('error', reject);
      // Such as too many open files: those that are open go on.
      listener.on('error', () => undefined);
      // A TCP server's address is never a string.
      const { port } = listener.address() as AddressInfo;
      resolve({ port, drop, close: () => listener.close() });
    });
  });
}
