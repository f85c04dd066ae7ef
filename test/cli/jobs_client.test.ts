/** The client against real gRPC servers that answer as coordinators do. */
import { once } from 'node:events';
import { constants, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { drain } from '../../cli/commands/nodes.js';
import { JobsClient } from '../../cli/jobs_client.js';
import { sha256Of } from '../../shared/bundle/pack.js';
import { parseJobSpec } from '../../shared/job_spec.js';
import { uploadMessage } from '../../shared/wire/bundles.js';
import {
  type JobEvent,
  jobEvent,
  jobReference,
  logEntry,
  logsRequest,
  type Node,
  node,
  nodeList,
  watchRequest,
} from '../../shared/wire/jobs.js';
import { BundlesClient, JobsClient as WireClient } from '../../shared/wire/services.js';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

type Unary = (call: ServerUnaryCall<unknown, unknown>, answer: sendUnaryData<unknown>) => void;
type Stream = (call: ServerWritableStream<unknown, unknown>) => void;

async function serve(methods: {
  readonly Cancel?: Unary;
  readonly Audit?: Unary;
  readonly Drain?: Unary;
  readonly Nodes?: Unary;
  readonly Watch?: Stream;
  readonly Logs?: Stream;
}) {
  const server = new Server();
  const unimplemented: Unary = (_, answer) => answer({ code: status.UNIMPLEMENTED });
  const names = Object.keys(WireClient.service);
  const implementation: UntypedServiceImplementation = Object.fromEntries(names.map((name) => [name, unimplemented]));
  server.addService(WireClient.service, { ...implementation, ...methods });
  return bound(server);
}

async function bound(server: Server): Promise<string> {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, chosen) =>
      error === null ? resolve(chosen) : reject(error),
    );
  });
  closing.push(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

type Upload = (call: ServerReadableStream<unknown, unknown>, answer: sendUnaryData<unknown>) => void;

async function serveBundles(methods: { readonly Find: Unary; readonly Upload?: Upload }) {
  const server = new Server();
  const refused = { Upload: (_: unknown, answer: sendUnaryData<unknown>) => answer({ code: status.UNIMPLEMENTED }) };
  server.addService(BundlesClient.service, { Fetch: () => undefined, ...refused, ...methods });
  return bound(server);
}

/** For tests of the end of it. */
const IMPATIENT_MS = 1500;

function clientOf(
  servers: readonly string[],
  { signal = new AbortController().signal, requestMs }: { signal?: AbortSignal; requestMs?: number } = {},
): JobsClient {
  const client = new JobsClient({ servers, signal, ...(requestMs === undefined ? {} : { requestMs }) });
  closing.push(() => client.close());
  return client;
}

function notLeading(leader: string | undefined) {
  const metadata = new Metadata();
  if (leader !== undefined) metadata.set('lockstep-leader', leader);
  return { code: status.FAILED_PRECONDITION, details: 'does not lead', metadata };
}

const report = { job: 'j1', steps: '5', samplesLost: '0', samplesRepeated: '0' };

function joined(sequence: number): unknown {
  const event: JobEvent = { kind: 'workerJoined', sequence, timeMs: sequence, job: 'j1', worker: `w${sequence}` };
  return jobEvent.encode(event, 'Event');
}

describe('a request', () => {
  it('follows a coordinator that names the leader', async () => {
    const leader = await serve({ Audit: (_, answer) => answer(null, report) });
    const other = await serve({ Audit: (_, answer) => answer(notLeading(leader)) });
    expect(await clientOf([other]).audit('j1')).toMatchObject({ steps: 5 });
  });

  it('waits while no coordinator leads', async () => {
    let asked = 0;
    const server = await serve({
      Audit: (_, answer) => {
        asked += 1;
        if (asked < 4) answer(notLeading(undefined));
        else answer(null, report);
      },
    });
    expect(await clientOf([server]).audit('j1')).toMatchObject({ steps: 5 });
    expect(asked).toBe(4);
  });

  it('goes on to another server when one does not answer', async () => {
    const server = await serve({ Audit: (_, answer) => answer(null, report) });
    expect(await clientOf(['127.0.0.1:1', server]).audit('j1')).toMatchObject({ steps: 5 });
  });

  it('goes to the coordinator itself where the environment names a proxy for the web', async () => {
    vi.stubEnv('http_proxy', 'http://127.0.0.1:1');
    closing.push(() => vi.unstubAllEnvs());
    const server = await serve({ Audit: (_, answer) => answer(null, report) });
    expect(await clientOf([server], { requestMs: IMPATIENT_MS }).audit('j1')).toMatchObject({ steps: 5 });
  });

  it('ends with 4 when nobody leads or answers in time', async () => {
    const server = await serve({ Audit: (_, answer) => answer(notLeading(undefined)) });
    const leaderless = clientOf([server], { requestMs: IMPATIENT_MS }).audit('j1');
    const unreachable = clientOf(['127.0.0.1:1'], { requestMs: IMPATIENT_MS }).audit('j1');
    await Promise.all([
      expect(leaderless).rejects.toMatchObject({
        exitCode: 4,
        message: expect.stringContaining('no coordinator leads'),
      }),
      expect(unreachable).rejects.toMatchObject({ exitCode: 4, message: expect.stringContaining('ECONNREFUSED') }),
    ]);
  });

  it('asks the leader again, and says what it said, when the leader cannot store the job', async () => {
    let asked = 0;
    const leader = await serve({
      Audit: (_, answer) => {
        asked += 1;
        answer({ code: status.ABORTED, details: 'etcd is out of space' });
      },
    });
    const standby = await serve({ Audit: (_, answer) => answer(notLeading(undefined)) });
    const client = clientOf([leader, standby], { requestMs: IMPATIENT_MS });
    await expect(client.audit('j1')).rejects.toMatchObject({
      exitCode: 4,
      message: expect.stringMatching(/^127\.0\.0\.1:\d+: etcd is out of space$/),
    });
    expect(asked).toBeGreaterThan(1);
  });

  it('ends at once when the coordinator refuses it', async () => {
    const server = await serve({
      Cancel: (_, answer) => answer({ code: status.NOT_FOUND, details: 'there is no job j1' }),
    });
    await expect(clientOf([server]).cancel('j1')).rejects.toMatchObject({ exitCode: 3, message: 'there is no job j1' });
  });

  it('whose answer cannot be understood ends with one line, not with the process', async () => {
    const server = await serve({ Audit: (_, answer) => answer(null, { ...report, job: 'x'.repeat(10_000) }) });
    await expect(clientOf([server]).audit('j1')).rejects.toMatchObject({
      exitCode: 1,
      message: expect.stringMatching(/^the coordinator's answer cannot be understood \(Audit\.job: is longer/),
    });
  });

  it('ends with 130 when it is interrupted', async () => {
    const interrupted = new AbortController();
    const server = await serve({ Audit: () => interrupted.abort() });
    const audit = clientOf([server], { signal: interrupted.signal }).audit('j1');
    await expect(audit).rejects.toMatchObject({ exitCode: 130 });
  });

  it('sends what it is asked', async () => {
    let reference = '';
    const server = await serve({
      Audit: (call, answer) => {
        reference = jobReference.decode(call.request, 'JobReference').job;
        answer(null, report);
      },
    });
    await clientOf([server]).audit('some job');
    expect(reference).toBe('some job');
  });
});

const busy: Node = {
  ...{ worker: 'w1', host: 'box', pid: 1, enginePid: 2, loopDelayMs: 1, state: 'training', job: 'j1', committed: 40 },
  ...{ engine: '', engineUsage: undefined, hostUsedBytes: undefined, cordoned: 'new fan', quarantined: '', marked: '' },
  machine: { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 1 },
};

it('a drain that is interrupted while it waits says so in one line, with 130', async () => {
  const interrupted = new AbortController();
  const server = await serve({
    Drain: (_, answer) => answer(null, node.encode(busy, 'Node')),
    Nodes: (_, answer) => {
      answer(null, nodeList.encode({ nodes: [busy], timeMs: 1 }, 'NodeList'));
      setTimeout(() => interrupted.abort(), 50);
    },
  });
  const context = {
    ...{ stdout: process.stdout, write: () => {}, signal: interrupted.signal, onKill: () => {}, environment: {} },
    ...{ user: undefined, defaultServer: server, tlsFolder: undefined, python: '', repository: '' },
  };
  await expect(drain(context, 'w1', { deadline: 60 })).rejects.toMatchObject({
    exitCode: 130,
    message: 'interrupted; w1 is drained all the same',
  });
});

describe('an upload', () => {
  const spec = parseJobSpec('version: 1\nname: x\ntask: a.py:A\nsteps: 2\nbatch: 4\nmicrobatches: 2');
  const archive = Buffer.alloc(600_000, 7);
  const bundle = { sha256: sha256Of(archive), archive };

  it('goes to the leader, again when it breaks off, and with all its bytes', async () => {
    const uploads: number[] = [];
    const leader = await serveBundles({
      Upload: async (call, answer) => {
        let bytes = 0;
        for await (const wire of call) {
          const message = uploadMessage.decode(wire, 'UploadMessage');
          if (message.kind === 'piece') bytes += message.data.length;
          if (uploads.length === 0) break;
        }
        uploads.push(bytes);
        if (uploads.length === 1) answer({ code: status.UNAVAILABLE, details: 'it was killed' });
        else answer(null, { sha256: bundle.sha256 });
      },
      Find: (_, answer) => answer(null, { whole: false }),
    });
    const standby = await serveBundles({ Find: (_, answer) => answer(notLeading(leader)) });
    await clientOf([standby, leader]).upload(bundle, spec);
    expect(uploads).toEqual([0, archive.length]);
  });

  it('is spared when the coordinators have it', async () => {
    const server = await serveBundles({ Find: (_, answer) => answer(null, { whole: true }) });
    await clientOf([server]).upload(bundle, spec);
  });

  it('that is refused ends at once, with what was said', async () => {
    const server = await serveBundles({
      Find: (_, answer) => answer(null, { whole: false }),
      Upload: (_, answer) => answer({ code: status.INVALID_ARGUMENT, details: 'batch: must be more' }),
    });
    await expect(clientOf([server]).upload(bundle, spec)).rejects.toMatchObject({
      exitCode: 2,
      message: 'batch: must be more',
    });
  });
});

describe('logs', () => {
  const entry = (worker: string, incarnation: string, number: number) =>
    logEntry.encode(
      {
        ...{ timeMs: 7, worker, incarnation, number, stream: 'stdout', text: `${worker} ${number}` },
        ...{ attempt: 1, generation: 1, step: 0 },
      },
      'LogEntry',
    );

  it('have each line once when a new leader has them in another order, and ask for the tail once', async () => {
    const asked: unknown[] = [];
    const streams = [
      [entry('w1', 'a', 1), entry('w2', 'b', 1), entry('w1', 'a', 2)],
      // The daemon of w1 was started anew, and what w2 printed comes first.
      [entry('w2', 'b', 1), entry('w2', 'b', 2), entry('w1', 'a', 1), entry('w1', 'a', 2), entry('w1', 'c', 1)],
    ];
    const server = await serve({
      Logs: (call) => {
        const { tail, attempt } = logsRequest.decode(call.request, 'LogsRequest');
        asked.push({ tail, attempt });
        for (const one of streams.shift() ?? []) call.write(one);
        if (streams.length > 0) call.emit('error', { code: status.UNAVAILABLE, details: 'gone' });
        else call.end();
      },
    });
    const texts: string[] = [];
    const lines = clientOf([server]).logs('j1', true, { tail: 9, attempt: 1 });
    for await (const { text, incarnation } of lines) texts.push(`${text}${incarnation}`);
    expect(texts).toEqual(['w1 1a', 'w2 1b', 'w1 2a', 'w2 2b', 'w1 1c']);
    expect(asked).toEqual([{ tail: 9, attempt: 1 }, { attempt: 1 }]);
  });
});

describe('many calls at a time', () => {
  it('take one listener of the signal, and all end with it', async () => {
    const stopped = new AbortController();
    const listeners = vi.spyOn(stopped.signal, 'addEventListener');
    const server = await serve({ Watch: () => undefined });
    const leaderless = await serve({ Audit: (_, answer) => answer(notLeading(undefined)) });
    const watching = clientOf([server], { signal: stopped.signal });
    const asking = clientOf([leaderless], { signal: stopped.signal });
    const all = Array.from({ length: 15 }, () => [watching.watch('j1', 1, true).next(), asking.audit('j1')]).flat();
    const ends = Promise.allSettled(all);
    await delay(200);
    stopped.abort();
    for (const end of await ends) expect(end).toMatchObject({ status: 'rejected', reason: { exitCode: 130 } });
    expect(listeners).toHaveBeenCalledTimes(2);
  });
});

describe('a watch', () => {
  it('goes on after the last event when its stream breaks, with each event once', async () => {
    const from: number[] = [];
    const server = await serve({
      Watch: (call) => {
        const { fromSequence } = watchRequest.decode(call.request, 'WatchRequest');
        from.push(fromSequence);
        // The second stream repeats an event, as a leader that is new might.
        for (let i = 0; i < 3; i++) call.write(joined(Math.max(1, fromSequence - 1) + i));
        if (from.length < 3) call.emit('error', { code: status.UNAVAILABLE, details: 'gone' });
        else call.end();
      },
    });
    const sequences: number[] = [];
    for await (const event of clientOf([server]).watch('j1', 1, true)) sequences.push(event.sequence);
    expect(from).toEqual([1, 4, 6]);
    expect(sequences).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  it('goes on when the coordinator ends its connection in the middle, as it does when a ping is not answered in time', async () => {
    const cutting = createServer();
    cutting.on('stream', (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.on('error', () => undefined);
      // What is left of a stream for a client that was too busy to see its connection end.
      setTimeout(() => stream.close(constants.NGHTTP2_NO_ERROR), 50);
    });
    cutting.listen(0, '127.0.0.1');
    await once(cutting, 'listening');
    closing.push(() => cutting.close());
    const server = await serve({
      Watch: (call) => {
        call.write(joined(1));
        call.end();
      },
    });
    const port = (cutting.address() as AddressInfo).port;
    const sequences: number[] = [];
    const events = clientOf([`127.0.0.1:${port}`, server]).watch('j1', 1, true);
    for await (const event of events) sequences.push(event.sequence);
    expect(sequences).toEqual([1]);
  });

  it('ends with 3 when there is no such job', async () => {
    const server = await serve({
      Watch: (call) => call.emit('error', { code: status.NOT_FOUND, details: 'no job x' }),
    });
    const watched = clientOf([server]).watch('x', 1, true).next();
    await expect(watched).rejects.toMatchObject({ exitCode: 3, message: 'no job x' });
  });
});
