/** The data plane over TLS: the same sums, and who is refused. */
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { contextOptions, SERVER_NAME } from '../../../shared/identity/tls_options.js';
import { MessageReader, statusOf, withPrefix } from '../../../worker/collective/grpc_wire.js';
import { PULL_PATH, serializePullRequest } from '../../../worker/collective/peer_service.js';
import { expired, TestAuthority, TestSource } from '../../certificates.js';
import { bitsOf, Gradients, placementsFor, reduceOn, TestWorker } from './test_worker.js';

const shape = { elements: 1_200_000, microbatches: 2 };
let authority: TestAuthority;
let others: TestAuthority;
const sources: TestSource[] = [];
const workers: TestWorker[] = [];

beforeAll(async () => {
  authority = await TestAuthority.make();
  others = await TestAuthority.make();
  for (const name of ['w0', 'w1']) {
    const source = new TestSource(await authority.credentialsOf('worker', name));
    sources.push(source);
    workers.push(await TestWorker.start(name, false, '127.0.0.1', source));
  }
});
afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  authority.remove();
  others.remove();
});

function two(): readonly [TestWorker, TestWorker] {
  const [first, second] = workers;
  if (first === undefined || second === undefined) throw new Error('two workers');
  return [first, second];
}

function begin(job: string, generation: number, wrong: object = {}): readonly [TestWorker, TestWorker] {
  const [first, second] = two();
  for (const worker of [first, second]) worker.open(job, shape);
  first.startGeneration(generation, [first.peer, { ...second.peer, ...wrong }]);
  second.startGeneration(generation, [first.peer, second.peer]);
  return [first, second];
}

describe('workers with certificates', () => {
  it('make the same sums as without, before and after their certificates are replaced', async () => {
    const gradients = new Gradients(shape, 3);
    const pair = begin('sums', 1);
    await reduceOn(pair, 0, placementsFor(2, [1, 1]), gradients);
    for (const worker of pair) expect(bitsOf(worker.reduced(0)).equals(bitsOf(gradients.total))).toBe(true);

    const before = await presentedBy(pair[1]);
    for (const [index, source] of sources.entries()) {
      source.replace(await authority.credentialsOf('worker', `w${index}`));
    }
    const next = new Gradients(shape, 4);
    await reduceOn(pair, 1, placementsFor(2, [1, 1]), next);
    for (const worker of pair) expect(bitsOf(worker.reduced(1)).equals(bitsOf(next.total))).toBe(true);

    await expect.poll(() => presentedBy(pair[1])).not.toBe(before);

    // Under a new name the peer is another one, to which a connection of its own is made.
    const again = begin('again', 1, { incarnation: 'other' });
    again[0].reduce(0, placementsFor(2, [1, 1]));
    expect((await again[0].next('peer_failed')).reason).toBe('another incarnation answers');
  });

  it('do not believe a worker of another name, and say so', async () => {
    const [first] = begin('impostor', 1, { worker: 'w7' });
    first.reduce(0, placementsFor(2, [1, 1]));
    const failed = await first.next('peer_failed');
    expect(failed).toMatchObject({
      worker: 'w7',
      reason: 'the certificate is that of worker w1, not of worker w7',
    });
  });
});

/** Serial number of the certificate that a new connection is shown. */
async function presentedBy(worker: TestWorker): Promise<string> {
  const options = contextOptions(await authority.credentialsOf('worker', 'w5'));
  const checkServerIdentity = (): undefined => undefined;
  const socket = connectTls({ port: worker.plane.port, host: '127.0.0.1', ...options, checkServerIdentity });
  try {
    await once(socket, 'secureConnect');
    return socket.getPeerCertificate().serialNumber;
  } finally {
    socket.destroy();
  }
}

/** How a call ends that asks for a chunk with these credentials, in the name of a worker. */
async function outcomeOf(
  credentials: Awaited<ReturnType<TestAuthority['credentialsOf']>> | undefined,
  name: string,
): Promise<string> {
  const [, second] = two();
  const options =
    credentials === undefined ? { ca: authority.ca, minVersion: 'TLSv1.3' as const } : contextOptions(credentials);
  const session = connectHttp2(`https://127.0.0.1:${second.plane.port}`, {
    ...options,
    ca: authority.ca,
    servername: SERVER_NAME,
    checkServerIdentity: () => undefined,
  });
  try {
    return await new Promise<string>((resolve) => {
      session.on('error', () => resolve('refused by TLS'));
      session.on('close', () => resolve('refused by TLS'));
      const stream = session.request({
        ':method': 'POST',
        ':path': PULL_PATH,
        'content-type': 'application/grpc+proto',
        te: 'trailers',
      });
      const ended = (headers: object): void => {
        const text = statusOf(new Map(Object.entries(headers).map(([key, value]) => [key, String(value)])));
        if (text !== undefined) resolve(text);
      };
      stream.on('error', () => resolve('refused by TLS'));
      stream.on('response', ended);
      stream.on('trailers', ended);
      const reader = new MessageReader(1 << 20);
      stream.on('data', (bytes: Buffer) => {
        if ((reader.push(bytes) ?? []).length > 0) resolve('answered');
      });
      const request = serializePullRequest({
        ...{ request: 1, kind: 'partial', job: 'nobody', term: 1, generation: 1, step: 0, nodeLo: 0, nodeLength: 1 },
        ...{
          bucket: 0,
          segment: 0,
          segments: 1,
          offset: 0,
          length: 4,
          worker: name,
          incarnation: 'i',
          sameHost: false,
        },
      });
      stream.write(withPrefix(request));
    });
  } finally {
    session.destroy();
  }
}

describe('the Peer service', () => {
  it('answers a worker in its own name', async () => {
    expect(await outcomeOf(await authority.credentialsOf('worker', 'w5'), 'w5')).toBe('answered');
  });

  it('refuses a worker in the name of another', async () => {
    const outcome = await outcomeOf(await authority.credentialsOf('worker', 'w5'), 'w0');
    expect(outcome).toBe('status 7: worker w5 asks in the name of w0');
  });

  it.each(['viewer', 'submitter', 'admin', 'coordinator'] as const)('refuses %s', async (role) => {
    const outcome = await outcomeOf(await authority.credentialsOf(role, 'anna'), 'anna');
    expect(outcome).toBe(`status 7: ${role} anna is not a worker`);
  });

  it('refuses the handshake of those without a certificate, with an expired one, and with one of another cluster', async () => {
    expect(await outcomeOf(undefined, 'w5')).toBe('refused by TLS');
    expect(await outcomeOf(await authority.credentialsOf('worker', 'w5', expired()), 'w5')).toBe('refused by TLS');
    expect(await outcomeOf(await others.credentialsOf('worker', 'w5'), 'w5')).toBe('refused by TLS');
  });
});
