/** The data plane speaks gRPC without grpc-js; at the other end there may be grpc-js, or any other gRPC. */
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  status,
} from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { PullRequest } from '../../../shared/wire/peer.js';
import { encodePartialFacts } from '../../../worker/collective/facts.js';
import { decodeHeader, encodeHeader, HEADER_BYTES } from '../../../worker/collective/frame.js';
import { decodePullRequest, PULL_PATH, serializePullRequest } from '../../../worker/collective/peer_service.js';
import { segmentSpan } from '../../../worker/collective/segments.js';
import { bitsOf, Gradients, TestWorker } from './test_worker.js';

const SHAPE = { elements: 5000, microbatches: 2 };
const LEAF = { lo: 0, length: 1 };
const SEGMENT = segmentSpan(SHAPE.elements * 4, 0, 1, 2);

let worker: TestWorker;
beforeAll(async () => {
  worker = await TestWorker.start('w0', false);
});
afterAll(() => worker.close());

function requestFor(fields: Partial<PullRequest>): PullRequest {
  const name = { kind: 'partial' as const, job: worker.job, term: 1, generation: 1, step: 0, nodeLo: 0, nodeLength: 1 };
  const place = { bucket: 0, segment: 1, segments: 2, offset: 0, length: SEGMENT.length };
  return { request: 1, ...name, ...place, worker: 'w1', incarnation: 'w1-1', sameHost: false, ...fields };
}

function client(): Client {
  const made = new Client(`127.0.0.1:${worker.plane.port}`, credentials.createInsecure());
  onTestFinished(() => made.close());
  return made;
}

const identity = (bytes: Buffer): Buffer => bytes;

/** The messages of a call to `path`, until there are `count` or it ends. */
async function callWith(path: string, messages: readonly Buffer[], count: number) {
  const call = client().makeBidiStreamRequest(path, identity, identity);
  const answers: Buffer[] = [];
  let greeting = '';
  call.on('metadata', (metadata: Metadata) => (greeting = String(metadata.get('lockstep-incarnation')[0])));
  for (const message of messages) call.write(message);
  const code = await new Promise<number>((resolve) => {
    call.on('error', () => undefined);
    call.on('status', ({ code: ended }) => resolve(ended));
    call.on('data', (message: Buffer) => {
      if (answers.push(message) === count) call.end();
    });
    if (count === 0 && messages.length === 0) call.end();
  });
  return { answers, greeting, code };
}

describe('a gRPC client', () => {
  it('is served the segment that it asks for', async () => {
    worker.open('served', SHAPE);
    worker.startGeneration(1, [worker.peer, { worker: 'w1', incarnation: 'w1-1', peerAddress: '127.0.0.1:1' }]);
    const gradients = new Gradients(SHAPE, 1);
    worker.publish(0, LEAF, gradients);
    const { answers, greeting, code } = await callWith(PULL_PATH, [serializePullRequest(requestFor({}))], 1);
    expect(code).toBe(status.OK);
    expect(greeting).toBe('w0-1');
    const [message] = answers;
    const half = bitsOf(gradients.of(LEAF)).subarray(SEGMENT.at);
    expect(decodeHeader(message?.subarray(0, HEADER_BYTES) ?? Buffer.alloc(0))).toMatchObject({
      status: 'bytes',
      offset: 0,
    });
    expect(message?.subarray(HEADER_BYTES).equals(half)).toBe(true);
  });

  it('that calls another method hears that there is none', async () => {
    expect((await callWith('/lockstep.peer.Peer/Push', [], 0)).code).toBe(status.UNIMPLEMENTED);
  });

  it.each([
    ['no protobuf', Buffer.from([0xff, 0xff, 0xff])],
    ['of a wire type that there is not', Buffer.from([0x08, 0x01, 0x0f])],
    ['a group that never ends', Buffer.from([0x0b])],
    ['too long', Buffer.alloc(5000)],
  ])('whose request is %s is told so', async (_name, message) => {
    expect((await callWith(PULL_PATH, [message], 1)).code).toBe(status.INVALID_ARGUMENT);
  });
});

/** Serves the reduced vector of step 0 through grpc-js. */
async function serve(gradients: Gradients): Promise<number> {
  const server = new Server();
  const definition = {
    path: PULL_PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
  const handler = (call: ServerDuplexStream<Buffer, Buffer>): void => {
    const greeting = new Metadata();
    greeting.set('lockstep-incarnation', 'g-1');
    call.sendMetadata(greeting);
    call.on('error', () => undefined);
    call.on('data', (message: Buffer) => {
      const request = decodePullRequest(message);
      if (request === undefined) throw new Error('a malformed request');
      const facts = encodePartialFacts(gradients.factsOf({ lo: 0, length: 2 }));
      const payload = request.kind === 'facts' ? facts : bitsOf(gradients.total);
      const header = Buffer.alloc(HEADER_BYTES);
      encodeHeader(header, request, 'bytes', 0, payload);
      call.write(Buffer.concat([header, payload]));
    });
    call.on('end', () => call.end());
  };
  server.addService({ Pull: definition }, { Pull: handler });
  onTestFinished(() => server.forceShutdown());
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
}

describe('a gRPC server', () => {
  it('is asked for a reduced vector, and believed', async () => {
    const gradients = new Gradients(SHAPE, 2);
    const port = await serve(gradients);
    worker.open('asking', SHAPE);
    worker.startGeneration(1, [worker.peer, { worker: 'g', incarnation: 'g-1', peerAddress: `127.0.0.1:${port}` }]);
    worker.tell({ kind: 'fetch_reduced', job: 'asking', step: 0, ranks: [1] });
    const { facts } = await worker.next('reduced');
    expect(facts).toEqual(gradients.factsOf({ lo: 0, length: 2 }));
    expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);
  });

  it('that is not there is reported with the reason', async () => {
    worker.open('nobody', SHAPE);
    worker.startGeneration(1, [worker.peer, { worker: 'g', incarnation: 'g-1', peerAddress: '127.0.0.1:1' }]);
    worker.tell({ kind: 'fetch_reduced', job: 'nobody', step: 0, ranks: [1] });
    expect((await worker.next('peer_failed')).reason).toContain('ECONNREFUSED');
  });
});
