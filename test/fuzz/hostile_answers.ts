/** The other direction: what a peer answers, and our own HTTP/2 client and frame reader that have to bear it. */

import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import fc from 'fast-check';
import type { PullRequest } from '../../shared/wire/peer.js';
import { encodeHeader, HEADER_BYTES } from '../../worker/collective/frame.js';
import { FrameReader } from '../../worker/collective/frame_reader.js';
import { withPrefix } from '../../worker/collective/grpc_wire.js';
import { ClientCall } from '../../worker/collective/http2/client_call.js';
import { encodeFrame, encodeSettings, flag, frameType } from '../../worker/collective/http2/frames.js';
import { encodeHeaderBlock } from '../../worker/collective/http2/header_block.js';
import { MOST_PAYLOAD_BYTES } from '../../worker/collective/peer_service.js';
import { anyBytes, nearly } from './mutations.js';

const ANSWER_MS = 60;
const REQUEST: PullRequest = {
  ...{ request: 1, kind: 'partial', job: 'j', term: 1, generation: 1, step: 0, nodeLo: 0, nodeLength: 1 },
  ...{ bucket: 0, segment: 0, segments: 1, offset: 0, length: 64, worker: 'w', incarnation: 'i', sameHost: false },
};

const peerFrame: fc.Arbitrary<Buffer> = fc.uint8Array({ maxLength: 512 }).map((payload) => {
  const header = Buffer.alloc(HEADER_BYTES);
  encodeHeader(header, REQUEST, 'bytes', 0, payload);
  return withPrefix(Buffer.concat([header, payload]));
});

const headers = encodeHeaderBlock(
  new Map([
    [':status', '200'],
    ['content-type', 'application/grpc+proto'],
    ['lockstep-incarnation', 'i'],
  ]),
);

const answer: fc.Arbitrary<Buffer> = fc
  .array(nearly(peerFrame), { maxLength: 8 })
  .map((frames) =>
    Buffer.concat([
      encodeSettings(new Map()),
      encodeFrame(frameType.headers, flag.endHeaders, 1, headers),
      ...frames.map((frame) => encodeFrame(frameType.data, 0, 1, frame)),
    ]),
  );

/** What a peer may send. */
export const hostileAnswers: fc.Arbitrary<Buffer> = fc.oneof(nearly(answer), answer, anyBytes);

export class HostilePeer {
  readonly #server: Server;
  #bytes = Buffer.alloc(0);

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      socket.on('error', () => undefined);
      socket.resume();
      socket.write(this.#bytes);
    });
  }

  static async start(): Promise<HostilePeer> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new HostilePeer(server);
  }

  close(): void {
    this.#server.close();
  }

  /** Calls it once, and gives the answer to the readers of the data plane. What they throw ends the process. */
  async answerWith(bytes: Buffer): Promise<void> {
    this.#bytes = Buffer.from(bytes);
    const memory = Buffer.alloc(MOST_PAYLOAD_BYTES);
    const reader = new FrameReader(MOST_PAYLOAD_BYTES, {
      memoryFor: ({ length }) => memory.subarray(0, length),
      frameArrived: () => undefined,
      frameRefused: () => undefined,
    });
    // A TCP server's address is never a string.
    const { port } = this.#server.address() as AddressInfo;
    await new Promise<void>((resolve) => {
      const request = new Map([
        [':method', 'POST'],
        [':path', '/x'],
      ]);
      const call = new ClientCall(`127.0.0.1:${port}`, request, {
        connected: () => undefined,
        headers: () => undefined,
        data: (data) => reader.push(data),
        over: () => end(),
      });
      const end = (): void => {
        clearTimeout(timer);
        call.close();
        resolve();
      };
      const timer = setTimeout(end, ANSWER_MS);
    });
  }
}
