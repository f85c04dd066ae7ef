/** A process that opens connections and keeps them: half of them say nothing, half speak HTTP/2 and make no call. Ends with its parent. */
import { connect, type Socket } from 'node:net';
import {
  encodeFrame,
  encodeSettings,
  FrameCutter,
  flag,
  frameType,
  PREFACE,
} from '../../worker/collective/http2/frames.js';

/** Opened at a time, so that the kernel's queue of new connections is not what is tested. */
const AT_ONCE = 50;

const [host = '', port = '0', localAddress = '', count = '0'] = process.argv.slice(2);
let open = 0;
let refused = 0;

function hold(index: number): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), localAddress });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      refused++;
      resolve();
    });
    socket.on('connect', () => {
      open++;
      if (index % 2 === 0) speakHttp2(socket);
      else socket.resume();
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

process.on('disconnect', () => process.exit(0));
for (let at = 0; at < Number(count); at += AT_ONCE) {
  const batch = Math.min(AT_ONCE, Number(count) - at);
  await Promise.all(Array.from({ length: batch }, (_, index) => hold(at + index)));
}
// What is over a limit is closed a moment after it was accepted.
setTimeout(() => process.send?.({ opened: open, closed: refused }), 500);
setInterval(() => undefined, 60_000);
