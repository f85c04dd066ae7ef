/** Brings bytes to a port, in one piece or in several, and reads what comes back, or does not. */
import { connect } from 'node:net';

const ANSWER_MS = 150;
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

/** Resolves when the other end has closed the connection, or after a while. */
export function deliver({ host, port }: Address, bytes: Buffer, { pieceBytes, reads }: Manner): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, noDelay: true });
    let received = 0;
    const end = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve();
    };
    const timer = setTimeout(end, ANSWER_MS);
    socket.on('error', end);
    socket.on('close', end);
    socket.on('connect', () => {
      for (let at = 0; at < bytes.length; at += pieceBytes) socket.write(bytes.subarray(at, at + pieceBytes));
    });
    if (!reads) return;
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received > MOST_ANSWER_BYTES) end();
    });
  });
}
