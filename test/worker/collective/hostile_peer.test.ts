/** Peers that send what was not asked for, in another order or again, and peers that ask too much or read nothing. */
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { Metadata, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { PullRequest } from '../../../shared/wire/peer.js';
import { encodePartialFacts } from '../../../worker/collective/facts.js';
import { encodeHeader, HEADER_BYTES } from '../../../worker/collective/frame.js';
import { withPrefix } from '../../../worker/collective/grpc_wire.js';
import {
  encodeFrame,
  encodeSettings,
  FrameCutter,
  type FrameHead,
  flag,
  frameType,
  PREFACE,
} from '../../../worker/collective/http2/frames.js';
import { encodeHeaderBlock } from '../../../worker/collective/http2/header_block.js';
import { PeerServer, type PeerServerLimits } from '../../../worker/collective/peer_server.js';
import {
  decodePullRequest,
  MOST_REQUEST_BYTES,
  PULL_PATH,
  serializePullRequest,
} from '../../../worker/collective/peer_service.js';
import { CHUNK_BYTES } from '../../../worker/collective/segments.js';
import { Shelf } from '../../../worker/collective/shelf.js';
import { bitsOf, Gradients, TestWorker } from './test_worker.js';

/** Several chunks a bucket. */
const SHAPE = { elements: 400_000, microbatches: 2 };
const ROOT = { lo: 0, length: 2 };

let worker: TestWorker;
beforeAll(async () => {
  worker = await TestWorker.start('w0', false);
});
afterAll(() => worker.close());

interface Frame {
  readonly request: PullRequest;
  readonly offset: number;
  readonly payload: Buffer;
}

function bytesOf({ request, offset, payload }: Frame): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  encodeHeader(header, request, 'bytes', offset, payload);
  return Buffer.concat([header, payload]);
}

/** The chunks of what was asked for, in order. */
function chunksOf(request: PullRequest, vector: Buffer): readonly Frame[] {
  const chunks: Frame[] = [];
  for (let at = request.offset; at < request.offset + request.length; at += CHUNK_BYTES) {
    const end = Math.min(at + CHUNK_BYTES, request.offset + request.length);
    chunks.push({ request, offset: at, payload: vector.subarray(at, end) });
  }
  return chunks;
}

/** Serves the reduced vector of a step, but `spoil` decides once what goes out instead of the first answer with several chunks. */
async function serve(gradients: Gradients, spoil: (chunks: readonly Frame[]) => readonly Frame[]) {
  const identity = (bytes: Buffer): Buffer => bytes;
  const vector = bitsOf(gradients.total);
  let spoilt = 0;
  let requests = 0;
  const handler = (call: ServerDuplexStream<Buffer, Buffer>): void => {
    const greeting = new Metadata();
    greeting.set('lockstep-incarnation', 'g-1');
    call.sendMetadata(greeting);
    call.on('error', () => undefined);
    call.on('data', (message: Buffer) => {
      const request = decodePullRequest(message);
      if (request === undefined) throw new Error('a malformed request');
      requests++;
      if (request.kind === 'facts') {
        call.write(bytesOf({ request, offset: 0, payload: encodePartialFacts(gradients.factsOf(ROOT)) }));
        return;
      }
      const chunks = chunksOf(request, vector);
      const isFirst = spoilt === 0 && chunks.length > 2;
      if (isFirst) spoilt++;
      for (const frame of isFirst ? spoil(chunks) : chunks) call.write(bytesOf(frame));
    });
    call.on('end', () => call.end());
  };
  const server = new Server();
  const definition = {
    path: PULL_PATH,
    ...{ requestStream: true, responseStream: true },
    ...{ requestSerialize: identity, requestDeserialize: identity },
    ...{ responseSerialize: identity, responseDeserialize: identity },
  };
  server.addService({ Pull: definition }, { Pull: handler });
  onTestFinished(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { port, spoilt: () => spoilt, requests: () => requests };
}

const other = (request: PullRequest, fields: Partial<PullRequest>): PullRequest => ({ ...request, ...fields });
/** The first chunk with another name, and other bytes, before the right ones. */
const strayBefore =
  (fields: Partial<PullRequest>) =>
  (chunks: readonly Frame[]): readonly Frame[] => {
    const [first] = chunks;
    if (first === undefined) return [];
    const payload = Buffer.alloc(first.payload.length, 0x55);
    return [{ ...first, request: other(first.request, fields), payload }, ...chunks];
  };

describe('what a peer sends', () => {
  it.each<[string, (chunks: readonly Frame[]) => readonly Frame[]]>([
    ['a chunk twice', ([first, ...rest]) => (first === undefined ? [] : [first, first, ...rest])],
    ['the chunks in another order', (chunks) => [...chunks].reverse()],
    ['all but one of the chunks', ([first, , ...rest]) => (first === undefined ? [] : [first, ...rest])],
    ['the chunk of another segment', strayBefore({ segment: 1 })],
    ['the chunk of another bucket', strayBefore({ bucket: 5 })],
    ['the chunk of another step', strayBefore({ step: 1 })],
    ['the chunk of an older generation', strayBefore({ generation: 0 })],
    ['the chunk of a generation to come', strayBefore({ generation: 9 })],
    ['the chunk of an older term', strayBefore({ term: 0 })],
    ['the chunk of a term to come', strayBefore({ term: 2 ** 50 })],
    ['the chunk of a request that was never made', strayBefore({ request: 4_000_000 })],
    ['a partial for a reduced vector', strayBefore({ kind: 'partial' })],
  ])('is %s: the vector is whole all the same', async (what, spoil) => {
    const gradients = new Gradients(SHAPE, 2);
    const hostile = await serve(gradients, spoil);
    const job = what.replaceAll(' ', '_');
    worker.open(job, SHAPE);
    const peer = { worker: 'g', incarnation: 'g-1', peerAddress: `127.0.0.1:${hostile.port}` };
    worker.startGeneration(1, [worker.peer, peer]);
    worker.tell({ kind: 'fetch_reduced', job, step: 0, ranks: [1] });
    await worker.next('reduced');
    expect(hostile.spoilt()).toBe(1);
    expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });

  it('is the greeting of another incarnation: nothing that it sends is taken', async () => {
    const gradients = new Gradients(SHAPE, 3);
    const hostile = await serve(gradients, (chunks) => chunks);
    worker.open('incarnation', SHAPE);
    const peer = { worker: 'g', incarnation: 'g-2', peerAddress: `127.0.0.1:${hostile.port}` };
    worker.startGeneration(1, [worker.peer, peer]);
    worker.tell({ kind: 'fetch_reduced', job: 'incarnation', step: 0, ranks: [1] });
    expect(await worker.next('peer_failed')).toMatchObject({ reason: 'another incarnation answers' });
    expect(worker.events.some(({ kind }) => kind === 'reduced')).toBe(false);
  });
});

const SLOT_BYTES = SHAPE.elements * 4;
/** Of one without a payload, with its prefix. */
const FRAME_BYTES = HEADER_BYTES + 5;

/** A server of its own, in this thread, with a committed vector of step 0. */
async function served(limits: Partial<PeerServerLimits> = {}): Promise<number> {
  const shelf = new Shelf(SLOT_BYTES, SHAPE.microbatches);
  shelf.start({ term: 2, generation: 5, rank: 0, roster: [{ worker: 'w1', incarnation: 'i', peerAddress: 'a:1' }] });
  const serving = {
    shelf,
    bytes: (_slot: number, _at: number, length: number) => Buffer.alloc(length),
    placeOf: (): never => {
      throw new Error('its memory is not offered');
    },
  };
  const everything = { waiting: 1000, idleMs: 10_000, stalledMs: 10_000, ...limits };
  const options = { incarnation: 'i', host: '', servingOf: (job: string) => (job === 'j' ? serving : undefined) };
  const server = new PeerServer(options, everything);
  onTestFinished(() => server.close());
  return server.listen('127.0.0.1', 0);
}

const HEADERS = { ':method': 'POST', ':path': PULL_PATH, te: 'trailers', 'content-type': 'application/grpc+proto' };

function opened(port: number): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  onTestFinished(() => session.destroy());
  return session;
}

function called(session: ClientHttp2Session): ClientHttp2Stream {
  const stream = session.request(HEADERS);
  stream.on('error', () => undefined);
  stream.resume();
  return stream;
}

async function statusOf(stream: ClientHttp2Stream): Promise<unknown> {
  const [trailers] = await once(stream, 'trailers');
  return trailers['grpc-status'];
}

const NAME = { kind: 'partial', job: 'j', term: 2, generation: 5, step: 0, nodeLo: 0, nodeLength: 1 } as const;
const PLACE = { bucket: 0, segment: 0, segments: 1, offset: 0, length: 16 };
const REQUEST: PullRequest = { request: 1, ...NAME, ...PLACE, worker: 'w1', incarnation: 'i', sameHost: false };

describe('a peer that asks', () => {
  it('in any bytes whatever is understood, or not; nothing is thrown', () => {
    const bytes = fc.uint8Array({ maxLength: 64 }).map((one) => Buffer.from(one));
    fc.assert(
      fc.property(bytes, fc.nat(), (rest, at) => {
        const right = serializePullRequest(REQUEST);
        const broken = Buffer.concat([right.subarray(0, at % right.length), rest]);
        return [rest, broken].every((one) => (decodePullRequest(one)?.job.length ?? 0) <= 128);
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    [MOST_REQUEST_BYTES, true],
    [MOST_REQUEST_BYTES + 1, false],
  ])('with a message of %i bytes is listened to: %s', async (bytes, listened) => {
    const stream = called(opened(await served()));
    const message = Buffer.alloc(5 + bytes);
    message.writeUInt32BE(bytes, 1);
    // Only its announcement: of one that is too long nothing more is waited for.
    stream.write(message.subarray(0, 5));
    const ended = statusOf(stream);
    if (!listened) expect(await ended).toBe('3');
    else expect(await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 200, 'open'))])).toBe('open');
  });

  it('for more than may wait in all is sent away, and those before it are kept', async () => {
    const session = opened(await served({ waiting: 4 }));
    const first = called(session);
    for (let request = 1; request <= 4; request++) {
      first.write(withPrefix(serializePullRequest({ ...REQUEST, request, generation: 6 })));
    }
    await once(first, 'response');
    const second = called(session);
    second.write(withPrefix(serializePullRequest({ ...REQUEST, generation: 6 })));
    expect(await statusOf(second)).toBe('8');
    expect(first.closed).toBe(false);
    first.destroy();
    // Their places are free again.
    const third = called(session);
    third.write(withPrefix(serializePullRequest({ ...REQUEST, generation: 6 })));
    await once(third, 'response');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(third.closed).toBe(false);
  });

  it('for nothing, on a connection without a stream, is cut off', async () => {
    const socket = connect(await served({ idleMs: 200 }), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.resume();
    await once(socket, 'close');
  });

  it('and never opens its window is cut off', async () => {
    const socket = connect(await served({ stalledMs: 300 }), '127.0.0.1');
    onTestFinished(() => void socket.destroy());
    let answered = 0;
    const reset = new Promise<FrameHead>((resolve) => {
      const cutter = new FrameCutter({
        data: ({ length }) => {
          answered += length / FRAME_BYTES;
        },
        frame: (head) => {
          if (head.type === frameType.resetStream) resolve(head);
        },
        tooLong: () => undefined,
      });
      socket.on('data', (bytes) => cutter.push(Buffer.from(bytes)));
    });
    socket.write(Buffer.concat([PREFACE, encodeSettings(new Map())]));
    socket.write(encodeFrame(frameType.headers, flag.endHeaders, 1, encodeHeaderBlock(RAW_HEADERS)));
    // What nobody has is refused with a frame each: a window of 64 KiB takes a thousand of them.
    for (let request = 1; request <= 1_100; request++) {
      const message = withPrefix(serializePullRequest({ ...REQUEST, job: 'none', request }));
      socket.write(encodeFrame(frameType.data, 0, 1, message));
      if (request % 100 === 0 && request < 1_000)
        await vi.waitFor(() => expect(answered).toBe(request), { interval: 2 });
    }
    expect((await reset).stream).toBe(1);
  });

  it('is told how many streams it may have, and served on them', async () => {
    const session = opened(await served());
    await once(session, 'remoteSettings');
    expect(session.remoteSettings.maxConcurrentStreams).toBe(4);
    const stream = called(session);
    stream.write(withPrefix(serializePullRequest({ ...REQUEST, job: 'none' })));
    const [head] = await once(stream, 'response');
    expect(head[':status']).toBe(200);
  });

  it.each([
    ['that has not agreed to any limit: it is refused, and the four are served', false],
    ['that has agreed to four: its connection is ended', true],
  ])('on a fifth stream %s', async (_what, agrees) => {
    const peer = await RawPeer.connect(await served(), agrees);
    for (const stream of [1, 3, 5, 7]) peer.open(stream);
    await vi.waitFor(() => expect(peer.responses).toEqual(new Set([1, 3, 5, 7])));
    peer.open(9);
    if (agrees) {
      await vi.waitFor(() => expect(peer.isClosed).toBe(true));
      return;
    }
    await vi.waitFor(() => expect(peer.seen).toEqual([`reset 9: ${constants.NGHTTP2_REFUSED_STREAM}`]));
    for (const stream of [1, 3, 5, 7]) peer.ask(stream);
    await vi.waitFor(() => expect(peer.answered).toBe(4 * FRAME_BYTES));
    peer.reset(3);
    peer.open(11);
    await vi.waitFor(() => expect(peer.responses).toContain(11));
    expect(peer.seen).toHaveLength(1);
  });
});

const RAW_HEADERS = new Map([
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', PULL_PATH],
  [':authority', 'localhost'],
]);

/** A peer that opens streams whatever it was told: Node's own client keeps to the limit. */
class RawPeer {
  /** Streams whose call was answered. */
  readonly responses = new Set<number>();
  /** Streams that were reset, and the end of the connection, with the reason. */
  readonly seen: string[] = [];
  /** Bytes of frames. */
  answered = 0;
  isClosed = false;

  private constructor(private readonly socket: Socket) {}

  static async connect(port: number, agrees: boolean): Promise<RawPeer> {
    const socket = connect(port, '127.0.0.1');
    onTestFinished(() => void socket.destroy());
    const peer = new RawPeer(socket);
    const cutter = new FrameCutter({
      data: ({ length }) => {
        peer.answered += length;
      },
      frame: ({ type, stream, flags }, payload) => {
        if (type === frameType.headers) peer.responses.add(stream);
        if (type === frameType.resetStream) peer.seen.push(`reset ${stream}: ${payload.readUInt32BE(0)}`);
        if (type === frameType.goaway) peer.seen.push(`goaway ${payload.readUInt32BE(4)}`);
        const asks = type === frameType.settings && (flags & flag.ack) === 0;
        if (asks && agrees) socket.write(encodeFrame(frameType.settings, flag.ack, 0, Buffer.alloc(0)));
      },
      tooLong: () => undefined,
    });
    socket.on('data', (bytes) => cutter.push(Buffer.from(bytes)));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      peer.isClosed = true;
    });
    socket.write(Buffer.concat([PREFACE, encodeSettings(new Map())]));
    await once(socket, 'data');
    return peer;
  }

  open(stream: number): void {
    this.socket.write(encodeFrame(frameType.headers, flag.endHeaders, stream, encodeHeaderBlock(RAW_HEADERS)));
  }

  /** For what nobody has: the answer is a frame that says so. */
  ask(stream: number): void {
    const message = withPrefix(serializePullRequest({ ...REQUEST, job: 'none' }));
    this.socket.write(encodeFrame(frameType.data, 0, stream, message));
  }

  reset(stream: number): void {
    const code = Buffer.alloc(4);
    code.writeUInt32BE(constants.NGHTTP2_CANCEL);
    this.socket.write(encodeFrame(frameType.resetStream, 0, stream, code));
  }
}
