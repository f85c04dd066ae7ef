/** Those who do not get past the handshake: with certificates that are none here, with handshakes that are none, or that never end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { CredentialFiles } from '../../shared/identity/credential_files.js';
import { SERVER_NAME } from '../../shared/identity/tls_options.js';
import type { Stranger } from './attackers.js';
import { type Address, opened } from './deliver.js';

/** Of somebody who is refused; the end of a handshake that stays silent takes up to 10 s (docs/limits.md). */
const REFUSED_MS = 20_000;
const KEY_UPDATES = 200;
const KEY_UPDATES_MS = 2_000;

/** The first bytes of a client as it should be. */
export async function clientHello(): Promise<Buffer> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // A TCP server's address is never a string.
  const { port } = server.address() as AddressInfo;
  const client = connectTls({ host: '127.0.0.1', port, servername: SERVER_NAME, ALPNProtocols: ['h2'] });
  client.on('error', () => undefined);
  const [socket]: Socket[] = await once(server, 'connection');
  if (socket === undefined) throw new Error('nobody connected');
  const [hello]: Buffer[] = await once(socket, 'data');
  client.destroy();
  socket.destroy();
  server.close();
  if (hello === undefined) throw new Error('nobody said hello');
  return hello;
}

/** Asks for something in full form. Throws if anything but an end of the connection is the answer. */
export function knock(address: Address, { what, context }: Stranger, question: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = opened(address, context);
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`somebody ${what} is still connected to port ${address.port} after ${REFUSED_MS / 1000} s`));
    }, REFUSED_MS);
    socket.on('error', () => undefined);
    // TLS 1.3 lets a client write before the server has looked at its certificate.
    socket.on('secureConnect', () => socket.write(question));
    socket.on('data', (bytes) => {
      socket.destroy();
      reject(new Error(`port ${address.port} answers somebody ${what}: ${bytes.toString('latin1').slice(0, 200)}`));
    });
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Begins a handshake with so many of the bytes, and says nothing more. Throws if that is borne for long. */
export function fallSilent({ host, port }: Address, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`port ${port} bears a handshake of ${bytes.length} bytes for ${REFUSED_MS / 1000} s`));
    }, REFUSED_MS);
    socket.on('error', () => undefined);
    socket.on('connect', () => socket.write(bytes));
    socket.resume();
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * What has taken the place of renegotiation in TLS 1.3: new keys, again and again. Node's clients cannot ask for them; a line that
 * begins with K makes openssl's do so.
 */
export async function updateKeys({ host, port }: Address, { ca, certificate, key }: CredentialFiles): Promise<void> {
  const args = ['s_client', '-connect', `${host}:${port}`, '-tls1_3', '-alpn', 'h2', '-CAfile', ca];
  const child = spawn('openssl', [...args, '-cert', certificate, '-key', key], { stdio: ['pipe', 'ignore', 'ignore'] });
  child.on('error', () => undefined);
  child.stdin.on('error', () => undefined);
  const exited = once(child, 'exit').catch(() => undefined);
  for (let sent = 0; sent < KEY_UPDATES && child.exitCode === null; sent++) {
    child.stdin.write('K\n');
    await delay(KEY_UPDATES_MS / KEY_UPDATES);
  }
  child.kill('SIGKILL');
  await exited;
}
