/**
 * A process that opens connections and keeps so many: some say nothing, the others speak HTTP/2, over TLS if it is given certificates, and
 * make no call. What is closed is opened again. Ends with its parent.
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { credentialFilesOf, readCredentials } from '../../shared/identity/credential_files.js';
import { contextOptions, SERVER_NAME } from '../../shared/identity/tls_options.js';
import {
  encodeFrame,
  encodeSettings,
  FrameCutter,
  flag,
  frameType,
  PREFACE,
} from '../../worker/collective/http2/frames.js';
import { type Held, heldOptions } from './held.js';

/** Opened at a time, so that the kernel's queue of new connections is not what is tested. */
const AT_ONCE = 50;
/** What is over a limit is closed a moment after it was accepted. */
const SETTLED_MS = 500;
const LOOK_MS = 500;
/** Before those that were closed are opened again. */
const AGAIN_MS = 1_000;

const { host, port, localAddress, count, silentShare, tlsFolder } = heldOptions.parse(
  JSON.parse(process.argv[2] ?? ''),
);
const context =
  tlsFolder === undefined
    ? undefined
    : createSecureContext(contextOptions(readCredentials(credentialFilesOf(tlsFolder))));
/** When each was accepted. */
const open = new Map<Socket, number>();
let opened = 0;
let refused = 0;
let dropped = 0;

function connected(index: number): Socket {
  const address = { host, port, localAddress };
  if (context === undefined || isSilent(index)) return connect(address);
  const unlooked = { rejectUnauthorized: false, servername: SERVER_NAME, ALPNProtocols: ['h2'] };
  return connectTls({ ...unlooked, secureContext: context, socket: connect(address) });
}

function isSilent(index: number): boolean {
  return (index % 16) / 16 < silentShare;
}

function hold(index: number): Promise<void> {
  return new Promise((resolve) => {
    const socket = connected(index);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      const sinceMs = open.get(socket);
      if (sinceMs === undefined || performance.now() - sinceMs < SETTLED_MS) refused++;
      else dropped++;
      open.delete(socket);
      resolve();
    });
    socket.on(context === undefined || isSilent(index) ? 'connect' : 'secureConnect', () => {
      opened++;
      open.set(socket, performance.now());
      if (isSilent(index)) socket.resume();
      else speakHttp2(socket);
      resolve();
    });
  });
}

function speakHttp2(socket: Socket): void {
  socket.write(Buffer.concat([PREFACE, encodeSettings(new Map())]));
  const cutter = new FrameCutter({
    data: () => undefined,
    frame: ({ type, flags }, payload) => {
      const isQuestion = (flags & flag.ack) === 0;
      if (isQuestion && (type === frameType.ping || type === frameType.settings)) {
        const answer = type === frameType.ping ? Buffer.from(payload) : Buffer.alloc(0);
        socket.write(encodeFrame(type, flag.ack, 0, answer));
      }
    },
    tooLong: () => undefined,
  });
  socket.on('data', (bytes) => cutter.push(Buffer.from(bytes)));
}

function report(isWhole: boolean): void {
  const settledMs = performance.now() - SETTLED_MS;
  const settled = [...open.values()].filter((sinceMs) => sinceMs < settledMs).length;
  process.send?.({ isWhole, settled, opened, refused, dropped } satisfies Held);
}

process.on('disconnect', () => process.exit(0));
let isWhole = false;
setInterval(() => report(isWhole), LOOK_MS);
for (;;) {
  const missing = count - open.size;
  for (let at = 0; at < missing; at += AT_ONCE) {
    const batch = Math.min(AT_ONCE, missing - at);
    await Promise.all(Array.from({ length: batch }, (_, index) => hold(at + index)));
  }
  await delay(AGAIN_MS);
  isWhole = true;
}
