/** Against Node's own HTTP/2 server, and against one that says what no good one would. */
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { ClientCall } from '../../../../worker/collective/http2/client_call.js';
import {
  decodeSettings,
  encodeFrame,
  encodeSettings,
  encodeWindowUpdate,
  FrameCutter,
  type FrameHead,
  flag,
  frameType,
  PREFACE,
  setting,
} from '../../../../worker/collective/http2/frames.js';
import { encodeHeaderBlock, type Headers } from '../../../../worker/collective/http2/header_block.js';

const REQUEST = new Map([
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/there'],
  [':authority', 'localhost'],
]);
const MEBIBYTE = 1024 * 1024;

class Caller {
  readonly headers: Headers[] = [];
  readonly reasons: string[] = [];
  readonly #data: Buffer[] = [];
  isConnected = false;
  readonly call: ClientCall;

  constructor(port: number) {
    this.call = new ClientCall(`127.0.0.1:${port}`, REQUEST, {
      connected: () => (this.isConnected = true),
      headers: (headers) => this.headers.push(headers),
      data: (bytes) => this.#data.push(Buffer.from(bytes)),
      over: (reason) => this.reasons.push(reason),
    });
    onTestFinished(() => this.call.close());
  }

  get data(): Buffer {
    return Buffer.concat(this.#data);
  }
}

function listening(server: Server): Promise<number> {
  onTestFinished(() => void server.close());
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
}

async function callTo(serve: (stream: ServerHttp2Stream) => void): Promise<Caller> {
  const server = createHttp2Server();
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    serve(stream);
  });
  return new Caller(await listening(server));
}

describe("Node's server", () => {
  it('is sent bytes, and sends them back, more than the windows of either end', async () => {
    const caller = await callTo((stream) => {
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    });
    const sent = Buffer.from(Array.from({ length: 20 * MEBIBYTE }, (_, index) => (index * 7) % 251));
    for (let at = 0; at < sent.length; at += MEBIBYTE) caller.call.write(sent.subarray(at, at + MEBIBYTE));
    await vi.waitFor(() => expect(caller.data.length).toBe(sent.length), 10_000);
    expect(caller.data.equals(sent)).toBe(true);
    expect(caller.reasons).toEqual([]);
  });

  it('sends headers of every length and octet', async () => {
    const octets = [...Array(256).keys()].slice(33).filter((octet) => octet !== 127);
    const values = [...Array(300).keys()].map((length) =>
      Buffer.from([...Array(length).keys()].map((at) => octets[(at * 31 + length) % octets.length] ?? 0)),
    );
    const names = values.map((_, index) => `name-${index}`);
    const caller = await callTo((stream) => {
      const entries = names.map((name, index) => [name, values[index]?.toString('latin1') ?? '']);
      stream.respond({ ':status': 200, ...Object.fromEntries(entries) });
    });
    await vi.waitFor(() => expect(caller.headers).toHaveLength(1));
    const [headers] = caller.headers;
    for (const [index, name] of names.entries()) {
      expect(headers?.get(name), name).toBe(values[index]?.toString('latin1'));
    }
  });

  it('ends the call with trailers', async () => {
    const caller = await callTo((stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'the-end': 'well' }));
      stream.end('bytes');
    });
    await vi.waitFor(() => expect(caller.reasons).toEqual(['the call ended without a status']));
    expect(caller.headers.map((headers) => headers.get('the-end'))).toEqual([undefined, 'well']);
    expect(caller.data.toString()).toBe('bytes');
  });

  it('is pinged, and resets the call', async () => {
    const streams: ServerHttp2Stream[] = [];
    const caller = await callTo((stream) => {
      streams.push(stream);
      stream.respond({ ':status': 200 });
    });
    await vi.waitFor(() => expect(caller.headers).toHaveLength(1));
    let answers = 0;
    caller.call.ping(() => answers++);
    await vi.waitFor(() => expect(answers).toBe(1));
    streams[0]?.destroy(new Error('on purpose'));
    await vi.waitFor(() => expect(caller.reasons).toEqual(['the peer ended the call (HTTP/2 error 2)']));
  });

  it('that is not there is told once', async () => {
    const server = createServer();
    const port = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    const caller = new Caller(port);
    await vi.waitFor(() => expect(caller.reasons).toEqual([`connect ECONNREFUSED 127.0.0.1:${port}`]));
    expect(caller.isConnected).toBe(false);
  });
});

/** What the caller has sent to a server that answers as the test says. */
class Raw {
  readonly frames: { head: FrameHead; payload: Buffer }[] = [];
  socket: Socket | undefined;
  data = '';

  static async start(first: readonly Buffer[]): Promise<{ raw: Raw; caller: Caller }> {
    const raw = new Raw();
    const server = createServer((socket) => {
      raw.#accept(socket);
      for (const bytes of first) socket.write(bytes);
    });
    return { raw, caller: new Caller(await listening(server)) };
  }

  #accept(socket: Socket): void {
    this.socket = socket;
    onTestFinished(() => void socket.destroy());
    const cutter = new FrameCutter({
      data: (bytes) => (this.data += bytes.toString('latin1')),
      frame: (head, payload) => this.frames.push({ head, payload: Buffer.from(payload) }),
      tooLong: () => this.frames.push({ head: { length: 0, type: -1, flags: 0, stream: 0 }, payload: Buffer.alloc(0) }),
    });
    let preface: Buffer = Buffer.alloc(0);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      const before = preface.length;
      preface = Buffer.concat([preface, bytes.subarray(0, PREFACE.length - before)]);
      cutter.push(bytes.subarray(preface.length - before));
    });
  }

  ofType(type: number) {
    return this.frames.filter(({ head }) => head.type === type);
  }
}

const NOTHING = Buffer.alloc(0);
const settings = (initialWindowSize: number): Buffer =>
  encodeSettings(new Map([[setting.initialWindowSize, initialWindowSize]]));
const data = (payload: string, flags = 0): Buffer =>
  encodeFrame(frameType.data, flags, 1, Buffer.from(payload, 'latin1'));
const block = encodeHeaderBlock(new Map([[':status', '200']]));

describe('another server', () => {
  it('hears that no table is kept, and its settings are acknowledged', async () => {
    const { raw } = await Raw.start([settings(100)]);
    await vi.waitFor(() => expect(raw.ofType(frameType.settings)).toHaveLength(2));
    const [ours, acknowledged] = raw.ofType(frameType.settings);
    expect(decodeSettings(ours?.payload ?? NOTHING).get(setting.headerTableSize)).toBe(0);
    expect(acknowledged?.head).toMatchObject({ flags: flag.ack, length: 0 });
  });

  it('is never sent more than its windows allow', async () => {
    const { raw, caller } = await Raw.start([settings(5)]);
    await vi.waitFor(() => expect(raw.ofType(frameType.settings)).toHaveLength(2));
    caller.call.write(Buffer.from('one two'));
    caller.call.write(Buffer.from(' three'));
    await vi.waitFor(() => expect(raw.data).toBe('one t'));
    raw.socket?.write(encodeWindowUpdate(1, 4));
    await vi.waitFor(() => expect(raw.data).toBe('one two t'));
    raw.socket?.write(settings(100));
    await vi.waitFor(() => expect(raw.data).toBe('one two three'));
  });

  it('may pad, give priorities, and cut headers and frames anywhere', async () => {
    const padded = Buffer.concat([Buffer.of(3, 0, 0, 0, 0, 7), block.subarray(0, 2), Buffer.alloc(3)]);
    const bytes = Buffer.concat([
      settings(100),
      encodeFrame(frameType.headers, flag.padded + flag.priority, 1, padded),
      encodeFrame(frameType.continuation, flag.endHeaders, 1, block.subarray(2)),
      data('\x02hello\0\0', flag.padded),
      encodeFrame(77, 0, 0, Buffer.from('unknown')),
      data(''),
      data(' you'),
      encodeFrame(frameType.ping, 0, 0, Buffer.from('12345678')),
    ]);
    const { raw, caller } = await Raw.start([]);
    await vi.waitFor(() => expect(caller.isConnected).toBe(true));
    for (const byte of bytes) {
      raw.socket?.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await vi.waitFor(() => expect(raw.ofType(frameType.ping)).toHaveLength(1));
    expect(raw.ofType(frameType.ping)[0]).toMatchObject({
      head: { flags: flag.ack },
      payload: Buffer.from('12345678'),
    });
    expect(caller.headers).toEqual([new Map([[':status', '200']])]);
    expect(caller.data.toString()).toBe('hello you');
    expect(caller.reasons).toEqual([]);
  });

  it.each([
    ['goes away', encodeFrame(frameType.goaway, 0, 0, Buffer.alloc(8)), 'the peer closes the connection'],
    ['pushes', encodeFrame(frameType.pushPromise, 0, 1, Buffer.alloc(4)), 'the peer pushes, which was not allowed'],
    ['sends half a frame', Buffer.from('0100000001', 'hex'), undefined],
    [
      'sends a frame that is longer than allowed',
      Buffer.from('010000000000000001', 'hex'),
      'a frame is longer than was allowed',
    ],
    ['pads more than there is', data('\x09abc', flag.padded), 'data with more padding than bytes'],
    [
      'sends headers that are none',
      encodeFrame(frameType.headers, flag.endHeaders, 1, Buffer.of(0x80)),
      'malformed headers',
    ],
    ['ends in the data', data('', flag.endStream), 'the call ended without a status'],
    [
      'resets without saying why',
      encodeFrame(frameType.resetStream, 0, 1, NOTHING),
      'the peer ended the call (HTTP/2 error without code)',
    ],
  ])('that %s: the call ends, or waits', async (_name, bytes, reason) => {
    const { raw, caller } = await Raw.start([settings(100), bytes]);
    if (reason === undefined) {
      await vi.waitFor(() => expect(raw.ofType(frameType.settings)).toHaveLength(2));
      expect(caller.reasons).toEqual([]);
      raw.socket?.end();
      await vi.waitFor(() => expect(caller.reasons).toEqual(['connection closed']));
    } else await vi.waitFor(() => expect(caller.reasons).toEqual([reason]));
  });

  it('that sends headers without end ends the call', async () => {
    const part = Buffer.alloc(16_000);
    const parts = Array.from({ length: 5 }, () => encodeFrame(frameType.continuation, 0, 1, part));
    const { caller } = await Raw.start([encodeFrame(frameType.headers, 0, 1, part), ...parts]);
    await vi.waitFor(() => expect(caller.reasons).toEqual(['malformed headers']));
  });

  it('that sends headers in ever more empty frames ends the call', async () => {
    const parts = Array.from({ length: 20 }, () => encodeFrame(frameType.continuation, 0, 1, NOTHING));
    const { caller } = await Raw.start([encodeFrame(frameType.headers, 0, 1, NOTHING), ...parts]);
    await vi.waitFor(() => expect(caller.reasons).toEqual(['malformed headers']));
  });

  it('that pings and pings, and reads nothing, ends the call', async () => {
    const { raw, caller } = await Raw.start([settings(100)]);
    await vi.waitFor(() => expect(raw.ofType(frameType.settings)).toHaveLength(2));
    raw.socket?.pause();
    const pings = Buffer.concat(
      Array.from({ length: 40_000 }, () => encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8))),
    );
    await vi.waitFor(() => {
      raw.socket?.write(pings);
      expect(caller.reasons).toEqual(['the peer does not read what it asks for']);
    }, 10_000);
  });

  it('that says anything at all is answered or left, once', async () => {
    const frame = fc
      .record({
        type: fc.integer({ min: 0, max: 10 }),
        flags: fc.integer({ min: 0, max: 255 }),
        stream: fc.integer({ min: 0, max: 3 }),
        payload: fc.uint8Array({ maxLength: 40 }),
      })
      .map(({ type, flags, stream, payload }) => encodeFrame(type, flags, stream, Buffer.from(payload)));
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { maxLength: 12 }), fc.uint8Array({ maxLength: 20 }), async (frames, rest) => {
        const { raw, caller } = await Raw.start([...frames, Buffer.from(rest)]);
        await vi.waitFor(() => expect(caller.isConnected).toBe(true));
        raw.socket?.end();
        await vi.waitFor(() => expect(caller.reasons).toHaveLength(1));
      }),
      { numRuns: 60 },
    );
  });
});
