import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { expect, it, onTestFinished, vi } from 'vitest';
import { limitConnections } from '../../shared/connection_limit.js';

async function limited(inAll: number, perAddress: number): Promise<Server> {
  const server = createServer((socket) => socket.on('error', () => undefined));
  limitConnections(server, { inAll, perAddress });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return server;
}

/** Resolves with the connection if it is still there after a while. */
async function opened(server: Server, localAddress: string): Promise<Socket | undefined> {
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: '127.0.0.1', localAddress });
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.resume();
  await new Promise((resolve) => setTimeout(resolve, 50));
  return socket.destroyed || socket.readableEnded ? undefined : socket;
}

it('one address has so many, and others are still let in', async () => {
  const server = await limited(10, 2);
  const [first] = [await opened(server, '127.0.0.1'), await opened(server, '127.0.0.1')];
  expect(await opened(server, '127.0.0.1')).toBeUndefined();
  expect(await opened(server, '127.0.0.2')).toBeDefined();
  first?.destroy();
  await vi.waitFor(async () => expect(await opened(server, '127.0.0.1')).toBeDefined());
});

it('all together have so many', async () => {
  const server = await limited(3, 2);
  for (const address of ['127.0.0.1', '127.0.0.2', '127.0.0.3']) expect(await opened(server, address)).toBeDefined();
  expect(await opened(server, '127.0.0.4')).toBeUndefined();
});
