/** How many connections a port takes, in all and from one address, so that one machine cannot keep out all others. */
import type { Server, Socket } from 'node:net';

export interface ConnectionLimits {
  readonly inAll: number;
  readonly perAddress: number;
}

/** More are closed at once. Whoever is told of connections after this finds those destroyed. */
export function limitConnections(server: Server, { inAll, perAddress }: ConnectionLimits): void {
  const open = new Map<string, number>();
  server.maxConnections = inAll;
  server.on('connection', (socket: Socket) => {
    const address = socket.remoteAddress ?? '';
    const count = (open.get(address) ?? 0) + 1;
    if (count > perAddress) {
      socket.destroy();
      return;
    }
    open.set(address, count);
    socket.once('close', () => {
      const left = (open.get(address) ?? 1) - 1;
      if (left > 0) open.set(address, left);
      else open.delete(address);
    });
  });
}
