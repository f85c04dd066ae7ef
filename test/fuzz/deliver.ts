/** Brings bytes to a port, in one piece or in several, and reads what comes back, or does not. */
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';
import { SERVER_NAME } from '../../shared/identity/tls_options.js';

const ANSWER_MS = 150;
const HANDSHAKE_MS = 3_000;
const MOST_ANSWER_BYTES = 1_000_000;

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Manner {
  /** Bytes of a piece. */
  readonly pieceBytes: number;
  readonly reads: boolean;
}

/** A connection without TLS, or with it; whoever answers is not looked at. */
export function opened({ host, port }: Address, secureContext: SecureContext | undefined): Socket {
  if (secureContext === undefined) return connect({ host, port, noDelay: true });
  const unlooked = { rejectUnauthorized: false, servername: SERVER_NAME, ALPNProtocols: ['h2'] };
  const socket = connectTls({ host, port, secureContext, ...unlooked });
  socket.setNoDelay(true);
  return socket;
}

/** Resolves when the other end has closed the connection, or after a while. */
export function deliver(
  address: Address,
  secureContext: SecureContext | undefined,
  bytes: Buffer,
  { pieceBytes, reads }: Manner,
): Promise<void> {
  return new Promise((resolve) => {
    const socket = opened(address, secureContext);
    let received = 0;
    const end = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve();
    };
    let timer = setTimeout(end, HANDSHAKE_MS);
    socket.on('error', end);
    socket.on('close', end);
    socket.on(secureContext === undefined ? 'connect' : 'secureConnect', () => {
      clearTimeout(timer);
      timer = setTimeout(end, ANSWER_MS);
      for (let at = 0; at < bytes.length; at += pieceBytes) socket.write(bytes.subarray(at, at + pieceBytes));
    });
    if (!reads) return;
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received > MOST_ANSWER_BYTES) end();
    });
  });
}
