/** What is wrong with a call to a coordinator, and the refusal that it gets; the state of the job is as it was. */
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials, Server, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { CoordinatorState, JobRun } from '../../../coordinator/core/state.js';
import { Driver } from '../../../coordinator/io/driver.js';
import { GRPC_SERVER_OPTIONS, type GrpcPort, listenForGrpc } from '../../../coordinator/io/grpc_port.js';
import { JobsService } from '../../../coordinator/io/jobs_service.js';
import { requestDeadline } from '../../../coordinator/io/request_deadline.js';
import { SessionService } from '../../../coordinator/io/session_service.js';
import { sessionService } from '../../../coordinator/io/session_wire.js';
import { Store } from '../../../coordinator/io/store.js';
import { connectEtcd, type EtcdClient } from '../../../shared/etcd/client.js';
import { createLogger } from '../../../shared/logger.js';
import { PROTOCOL } from '../../../shared/protocol.js';
import { JobsClient, SessionClient } from '../../../shared/wire/services.js';
import { MOST_TOGETHER, type WorkerMessage, workerMessage } from '../../../shared/wire/session.js';
import { encodeFrame, FrameCutter, flag, frameType, PREFACE } from '../../../worker/collective/http2/frames.js';
import { encodeHeaderBlock } from '../../../worker/collective/http2/header_block.js';
import { addJob, leadingState } from '../web/known_jobs.js';

const TERM = 7;
const MESSAGE_BYTES = 4 * 1024 * 1024;
const CANCEL = '/lockstep.jobs.Jobs/Cancel';

let state: CoordinatorState;
let run: JobRun;
let driver: Driver;
let etcd: EtcdClient;
let server: Server;
let grpc: GrpcPort;
let client: Client;

beforeEach(async () => {
  state = leadingState(TERM);
  run = addJob(state, 'a');
  // No worker of these tests gets it.
  run.record = { ...run.record, spec: { ...run.record.spec, needsGpus: 64 } };
  const log = createLogger('coordinator', 'c1', 'error');
  log.silent = true;
  // Nothing is written: no call here may get as far as that.
  etcd = connectEtcd({ endpoints: ['http://127.0.0.1:1'], prefix: '/x/', callTimeoutMs: 500 });
  const store = new Store({ client: etcd, log });
  driver = new Driver({ state, store, term: () => TERM, stepDown: () => undefined, log });
  const leader = () => undefined;
  const drop = (peer: string): void => grpc.drop(peer);
  const sessions = new SessionService(driver, leader, log, { record: () => undefined }, drop, {
    sessions: 3,
    helloMs: 300,
  });
  const limits = { waiting: 2, readers: 2, slowReaderMs: 300, listBytes: 30_000 };
  const jobs = new JobsService(driver, leader, { holds: () => true }, drop, limits);
  driver.connect(sessions, jobs);
  server = new Server({ ...GRPC_SERVER_OPTIONS, interceptors: [requestDeadline(500)] });
  server.addService(sessionService, sessions.implementation);
  server.addService(JobsClient.service, jobs.implementation);
  grpc = await listenForGrpc(server, '127.0.0.1:0', ServerCredentials.createInsecure());
  client = new Client(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
});

afterEach(() => {
  client.close();
  grpc.close();
  server.forceShutdown();
  driver.close();
  etcd.close();
});

const identity = (bytes: Buffer): Buffer => bytes;

/** Status and details of a call with these bytes as its request. */
function outcomeOf(path: string, request: Buffer): Promise<Pick<ServiceError, 'code' | 'details'>> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, identity, identity, request, { deadline: Date.now() + 5_000 }, (error) =>
      resolve(error ?? { code: status.OK, details: '' }),
    );
  });
}

/** A protobuf message of so many bytes: one field that nobody knows. */
function messageOf(bytes: number): Buffer {
  const [tag, lengthBytes] = [(15 << 3) | 2, 4];
  const message = Buffer.alloc(bytes);
  let rest = bytes - 1 - lengthBytes;
  message[0] = tag;
  for (let at = 1; at <= lengthBytes; at++, rest >>>= 7) message[at] = (rest & 127) | (at < lengthBytes ? 128 : 0);
  return message;
}

const aliveStill = async (): Promise<void> => {
  const { code } = await outcomeOf('/lockstep.jobs.Jobs/List', Buffer.alloc(0));
  expect(code).toBe(status.OK);
};

function session() {
  const stub = new SessionClient(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
  const stream = stub['connect']?.();
  const ended = new Promise<{ code: number; details: string }>((resolve) => stream.on('status', resolve));
  stream.on('error', () => undefined);
  stream.on('data', () => undefined);
  const saying = (messages: readonly object[]): void => void stream.write({ messages });
  const say = (...messages: readonly WorkerMessage[]): void => saying(messages.map(wireOf));
  return { say, saying, ended, close: () => stub.close(), stream };
}

const wireOf = (message: WorkerMessage) => Object(workerMessage.encode(message, 'WorkerMessage'));

const machine = { labels: new Map<string, string>(), cpus: 1, gpus: 0, memoryBytes: 1 };
const hello = (worker: string, term = TERM): WorkerMessage => ({
  kind: 'hello',
  ...{ worker, incarnation: `${worker}-1`, host: 'h', pid: 1, peerAddress: '127.0.0.1:1', term, machine },
  ...{ measures: false, protocol: PROTOCOL },
});

describe('a message', () => {
  it('of the largest size is looked at, and one that is a byte longer is not', async () => {
    expect((await outcomeOf(CANCEL, messageOf(MESSAGE_BYTES))).code).toBe(status.NOT_FOUND);
    const { code, details } = await outcomeOf(CANCEL, messageOf(MESSAGE_BYTES + 1));
    expect(code).toBe(status.RESOURCE_EXHAUSTED);
    expect(details).toMatch(/larger than max/);
  });

  it.each([
    ['no protobuf', Buffer.from([0xff, 0xff, 0xff]), status.INTERNAL],
    // The two are read as what is left of them, which names no job.
    ['a text that is no UTF-8', Buffer.from([0x0a, 0x02, 0xc3, 0x28]), status.NOT_FOUND],
    ['a text that is cut off', Buffer.from([0x0a, 0x7f, 0x62]), status.NOT_FOUND],
    [
      'a name of 1 MiB',
      Buffer.concat([Buffer.from([0x0a, 0x80, 0x80, 0x40]), Buffer.alloc(1 << 20)]),
      status.INVALID_ARGUMENT,
    ],
  ])('that is %s is refused', async (_what, bytes, code) => {
    expect((await outcomeOf(CANCEL, bytes)).code).toBe(code);
    await aliveStill();
  });

  it('to a method that is not there is refused', async () => {
    expect((await outcomeOf('/lockstep.jobs.Jobs/Destroy', Buffer.alloc(0))).code).toBe(status.UNIMPLEMENTED);
  });
});

describe('calls', () => {
  it('that wait for etcd are so many, and one more is refused', async () => {
    const cordon = Buffer.from([0x0a, 0x02, 0x77, 0x31]);
    const first = session();
    first.say(hello('w1'));
    await vi.waitFor(() => expect(state.workers.size).toBe(1));
    const path = '/lockstep.jobs.Jobs/Cordon';
    const waiting = [outcomeOf(path, cordon), outcomeOf(path, cordon)];
    const third = await outcomeOf(path, cordon);
    expect(third).toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      details: '2 requests wait already; try again later',
    });
    driver.dispatch({ kind: 'deposed' });
    for (const one of await Promise.all(waiting)) expect(one.code).toBe(status.UNAVAILABLE);
    first.close();
  });

  it('list the newest jobs that fit an answer, and say how many do not', async () => {
    for (let index = 0; index < 20; index++) addJob(state, `job${index}`);
    const stub = new JobsClient(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
    const answer = await new Promise<{ jobs: unknown[]; leftOut: number }>((resolve, reject) =>
      stub['list']?.({}, (error: Error | null, list: { jobs: unknown[]; leftOut: number }) =>
        error === null ? resolve(list) : reject(error),
      ),
    );
    expect(answer.jobs.length).toBeGreaterThan(2);
    expect(answer.jobs.length + answer.leftOut).toBe(21);
    stub.close();
  });
});

describe('a slow stream', () => {
  it('that does not say its whole request is ended', async () => {
    const connection = connectHttp2(`http://127.0.0.1:${grpc.port}`);
    const headers = { ':method': 'POST', ':path': CANCEL, te: 'trailers', 'content-type': 'application/grpc+proto' };
    const stream = connection.request(headers);
    stream.write(Buffer.from([0, 0, 0, 0, 9]));
    const [answer] = await Promise.race([once(stream, 'response'), once(stream, 'trailers')]);
    expect(answer).toMatchObject({ 'grpc-status': String(status.DEADLINE_EXCEEDED) });
    expect(decodeURIComponent(String(answer['grpc-message']))).toBe('the request was not whole within 500 ms');
    connection.destroy();
  });

  it('that does not say who it is is ended', async () => {
    const { ended, close } = session();
    expect(await ended).toMatchObject({ code: status.ABORTED, details: 'it did not say hello within 300 ms' });
    close();
  });

  it('that reads nothing of what it asked for is ended with its connection', async () => {
    for (let line = 0; line < 200; line++) {
      const text = 'x'.repeat(8192);
      const of = { worker: 'w1', incarnation: 'i', attempt: 1, generation: 1, step: 0, number: line + 1 };
      run.logs.lines.push({ timeMs: 0, stream: 'stdout', text, ...of });
    }
    const stub = new JobsClient(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
    const stream = stub['logs']?.({ job: 'a', follow: true, worker: '' });
    const ended = new Promise((resolve) => stream.on('status', resolve));
    stream.on('error', () => undefined);
    stream.once('data', () => stream.pause());
    await delay(600);
    stream.resume();
    expect(await ended).toMatchObject({ code: status.UNAVAILABLE });
    stub.close();
    await aliveStill();
  });

  it('is one of so many readers', async () => {
    const stub = new JobsClient(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
    const watch = () => {
      const stream = stub['watch']?.({ job: 'a', fromSequence: '0', follow: true });
      stream.on('error', () => undefined);
      stream.on('data', () => undefined);
      return new Promise<{ code: number }>((resolve) => stream.on('status', resolve));
    };
    const outcomes = [watch(), watch(), watch()];
    expect((await Promise.race(outcomes)).code).toBe(status.RESOURCE_EXHAUSTED);
    stub.close();
  });

  it('of sessions there are so many, too', async () => {
    const open = Array.from({ length: 4 }, () => session());
    const first = await Promise.race(open.map(({ ended }) => ended));
    expect(first).toMatchObject({ code: status.RESOURCE_EXHAUSTED, details: 'there are 3 sessions already' });
    for (const one of open) one.close();
  });
});

it('10,000 streams on one connection are refused, and others are served meanwhile', async () => {
  const socket = connect(grpc.port, '127.0.0.1');
  let refused = 0;
  let connectionEnded = false;
  const cutter = new FrameCutter({
    data: () => undefined,
    frame: ({ type }) => {
      if (type === frameType.resetStream) refused++;
      if (type === frameType.goaway) connectionEnded = true;
    },
    tooLong: () => undefined,
  });
  socket.on('data', (bytes) => cutter.push(Buffer.from(bytes)));
  socket.on('error', () => undefined);
  socket.on('close', () => {
    connectionEnded = true;
  });
  await once(socket, 'connect');
  const headers = encodeHeaderBlock(
    new Map([
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', '/lockstep.session.Session/Connect'],
      [':authority', 'localhost'],
      ['te', 'trailers'],
      ['content-type', 'application/grpc+proto'],
    ]),
  );
  socket.write(Buffer.concat([PREFACE, encodeFrame(frameType.settings, 0, 0, Buffer.alloc(0))]));
  for (let stream = 1; stream < 20_000; stream += 2) {
    socket.write(encodeFrame(frameType.headers, flag.endHeaders, stream, headers));
  }
  await aliveStill();
  await vi.waitFor(() => expect(connectionEnded || refused >= 9_900).toBe(true), 5_000);
  await aliveStill();
  socket.destroy();
});

describe('a session', () => {
  it.each([
    ['a name that no configuration can say', [hello('../w1')], /^WorkerMessage.hello.worker: must be 1 to 63/],
    [
      'an address that is none',
      [{ ...hello('w1'), peerAddress: 'http://[' } as WorkerMessage],
      /^WorkerMessage.hello.peerAddress: must be host:port/,
    ],
    [
      'another protocol than this version has',
      [{ ...hello('w2'), protocol: PROTOCOL - 1 } as WorkerMessage],
      /^WorkerMessage.hello.protocol: worker w2 speaks 0, this coordinator 1: install the same version/,
    ],
    ['two names', [hello('w1'), hello('w2')], /^WorkerMessage.hello: was said already/],
  ])('that says %s is ended', async (_what, messages, details) => {
    const { say, ended, close } = session();
    for (const message of messages) say(message);
    const end = await ended;
    expect(end.code).toBe(status.ABORTED);
    expect(end.details).toMatch(details);
    expect(state.workers.has('w2')).toBe(false);
    close();
  });

  it('takes what is said together one after the other', async () => {
    const { say, ended, close } = session();
    say(hello('w1'), { kind: 'leaving' });
    await vi.waitFor(() => expect(state.workers.get('w1')?.leaving).toBe(true));
    say({ kind: 'leaving' }, hello('w2'), { kind: 'leaving' });
    expect(await ended).toMatchObject({ code: status.ABORTED, details: 'WorkerMessage.hello: was said already' });
    expect(state.workers.has('w2')).toBe(false);
    close();
  });

  it.each<[string, readonly object[], RegExp]>([
    [
      'what cannot be read',
      [{ unloaded: { job: 'x'.repeat(129) } }],
      /^WorkerMessages.messages\[1\].unloaded.job: is longer than 128/,
    ],
    [
      'too much',
      Array.from({ length: MOST_TOGETHER }, () => ({ leaving: {} })),
      /^WorkerMessages.messages: has more than 64 entries/,
    ],
  ])('that says %s with its hello is not listened to', async (_what, more, details) => {
    const { saying, ended, close } = session();
    saying([wireOf(hello('w1')), ...more]);
    expect(await ended).toMatchObject({ code: status.ABORTED, details: expect.stringMatching(details) });
    expect(state.workers.size).toBe(0);
    close();
  });

  it('that does not begin with hello is ended', async () => {
    const { say, ended, close } = session();
    say({ kind: 'leaving' });
    expect(await ended).toMatchObject({ code: status.ABORTED, details: 'it did not say hello' });
    close();
  });

  const job = 'a';
  const facts = { loss: 1, weight: 1, consumed: Buffer.alloc(0), stepMs: 1, computeMs: 1, reduceMs: 1, applyMs: 1 };
  it.each<[string, WorkerMessage]>([
    [
      'a step of an older generation',
      { kind: 'stepCommitted', job, generation: 1, step: 0, ...facts, pulledBytes: 0, skipped: false },
    ],
    [
      'a step of a generation to come',
      { kind: 'stepCommitted', job, generation: 2 ** 40, step: 9, ...facts, pulledBytes: 0, skipped: false },
    ],
    ['that it has seen a generation to come', { kind: 'refused', job, term: TERM, generation: 2 ** 53 - 1 }],
    ['that a peer is lost', { kind: 'peerLost', job, generation: 3, worker: 'w1', reason: 'x' }],
    ['that the job is done', { kind: 'finished', job, weights: 'x', metrics: new Map(), path: '/x' }],
    [
      'that the engine has failed',
      { kind: 'engineFailed', job, phase: 'x', failure: 'user', message: 'x', traceback: 'x', engineStart: 1 },
    ],
    [
      'that a checkpoint is there',
      { kind: 'checkpointPublished', job, save: 's', path: '/x', manifestSha256: 'x', stateSha256: 'x', bytes: 1 },
    ],
  ])('of a worker that has not got the job says %s: nothing comes of it', async (_what, message) => {
    run.generation = 3;
    const before = { ...run.record };
    const { say, close } = session();
    say(hello('w9'));
    say(message);
    say({ kind: 'heartbeat', enginePid: 77, committed: 0, microbatchMs: 0, restoredPieces: 0, loopDelayMs: 0 });
    await vi.waitFor(() => expect(state.workers.get('w9')?.enginePid).toBe(77));
    expect(run.record).toEqual(before);
    expect(run.generation).toBe(3);
    expect([...state.writes.values()].filter(({ pending }) => pending.kind !== 'accounts')).toEqual([]);
    close();
  });

  it.each([
    ['far above all that are known', 2 ** 53 - 1, 3],
    ['that was prepared by another leader', 40, 40],
  ])('of a worker that holds the job in a generation %s', async (_what, generation, expected) => {
    run.generation = 3;
    const { say, close } = session();
    const holding = { job, generation, committed: 0, hasState: false, engineStart: 1, started: false, attempt: 1 };
    say({ ...hello('w9'), holding } as WorkerMessage);
    await vi.waitFor(() => expect(state.workers.has('w9')).toBe(true));
    expect(run.generation).toBe(expected);
    close();
  });
});

it('a connection that says nothing is closed', async () => {
  const socket = connect(grpc.port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.resume();
  await once(socket, 'close');
}, 8_000);
