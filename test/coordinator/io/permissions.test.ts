/** Who is let in at a coordinator, and who may do what there: real certificates, real sockets. */
import { readFileSync } from 'node:fs';
import { type Client, Metadata, type ServiceClientConstructor, type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { guarded } from '../../../coordinator/io/guard.js';
import { PERMISSIONS } from '../../../coordinator/io/permissions.js';
import { validForDays } from '../../../shared/certificates/authority.js';
import type { Credentials } from '../../../shared/identity/credential_files.js';
import { joinChannelCredentials, TLS_CHANNEL_OPTIONS } from '../../../shared/identity/grpc_credentials.js';
import { ROLES, type Role } from '../../../shared/identity/identity.js';
import { PROTOCOL } from '../../../shared/protocol.js';
import { submitRequest } from '../../../shared/wire/jobs.js';
import { BundlesClient, JobsClient, SessionClient, TokensClient } from '../../../shared/wire/services.js';
import { workerMessages } from '../../../shared/wire/session.js';
import { expired, TestAuthority, TestSource } from '../../certificates.js';
import { SecuredServices, spec } from './secured_services.js';

let authority: TestAuthority;
let others: TestAuthority;
let source: TestSource;
let services: SecuredServices;
const owned = new Map<Role, Credentials>();
const clients: Client[] = [];

beforeAll(async () => {
  authority = await TestAuthority.make();
  others = await TestAuthority.make();
  source = new TestSource(await authority.credentialsOf('coordinator', 'c1'));
  services = await SecuredServices.start(source);
  for (const role of ROLES) owned.set(role, await authority.credentialsOf(role, 'anna'));
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  services.audited.length = 0;
  services.events.length = 0;
});
afterAll(() => {
  services.close();
  authority.remove();
  others.remove();
});

const LIMIT_MS = 20_000;
/** For what waits for an etcd that is not there. */
const SHORT_MS = 500;

const SERVICES: Readonly<Record<string, ServiceClientConstructor>> = {
  Jobs: JobsClient,
  Bundles: BundlesClient,
  Session: SessionClient,
  Tokens: TokensClient,
};

/** How a call ends, whatever its kind; the streams of those who are let in are cancelled after a moment. */
function endOf(
  name: string,
  credentials: Credentials | undefined,
  request: object = {},
  limitMs = LIMIT_MS,
): Promise<Partial<ServiceError>> {
  const [serviceName = '', methodName = ''] = name.split('.');
  const service = SERVICES[serviceName];
  const method = service?.service[methodName];
  if (service === undefined || method === undefined) throw new Error(name);
  const client = services.client(service, credentials);
  clients.push(client);
  const { path, requestSerialize, responseDeserialize, requestStream, responseStream } = method;
  const deadline = { deadline: Date.now() + limitMs };
  return new Promise((resolve) => {
    const done = (error: ServiceError | null): void => resolve(error ?? { code: status.OK });
    if (requestStream && responseStream) {
      const stream = client.makeBidiStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        new Metadata(),
        deadline,
      );
      stream
        .on('error', () => undefined)
        .on('status', resolve)
        .on('data', () => undefined);
      if (Object.keys(request).length > 0) stream.write(request);
      stream.end();
    } else if (requestStream) {
      const stream = client.makeClientStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        new Metadata(),
        deadline,
        done,
      );
      stream.on('error', () => undefined);
      stream.end();
    } else if (responseStream) {
      const stream = client.makeServerStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        new Metadata(),
        deadline,
      );
      stream
        .on('error', () => undefined)
        .on('status', resolve)
        .on('data', () => undefined);
    } else {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, new Metadata(), deadline, done);
    }
  });
}

const READ = ['viewer', 'submitter', 'admin'];
const SUBMIT = ['submitter', 'admin'];
const TABLE: Readonly<Record<string, readonly string[]>> = {
  'Jobs.Submit': SUBMIT,
  'Jobs.Get': READ,
  'Jobs.List': READ,
  'Jobs.Watch': READ,
  'Jobs.Cancel': SUBMIT,
  'Jobs.Logs': READ,
  'Jobs.Nodes': READ,
  'Jobs.ClusterUsage': READ,
  'Jobs.Audit': READ,
  'Jobs.Resume': SUBMIT,
  'Jobs.Checkpoints': READ,
  'Jobs.Cordon': ['admin'],
  'Jobs.Uncordon': ['admin'],
  'Jobs.Drain': ['admin'],
  'Bundles.Find': SUBMIT,
  'Bundles.Upload': SUBMIT,
  'Bundles.Fetch': ['worker'],
  'Session.Connect': ['worker'],
  'Tokens.Create': ['admin'],
};

describe('every method', () => {
  it('is in the table, and nothing else is', () => {
    const methods = Object.entries(SERVICES).flatMap(([name, { service }]) =>
      Object.keys(service).map((method) => `${name}.${method}`),
    );
    expect(Object.keys(PERMISSIONS).sort()).toEqual(methods.sort());
    expect(Object.keys(TABLE).sort()).toEqual(methods.sort());
  });

  it.each(Object.entries(TABLE))('%s is for %j, and refused to all others', async (name, allowed) => {
    for (const role of ROLES) {
      const { code, details } = await endOf(name, owned.get(role));
      if (allowed.includes(role)) {
        expect([name, role, code]).not.toEqual([name, role, status.PERMISSION_DENIED]);
        expect(code).not.toBe(status.UNAUTHENTICATED);
      } else {
        expect([name, role, code]).toEqual([name, role, status.PERMISSION_DENIED]);
        expect(details).toBe(`${role} anna may not call ${name}, which is for: ${PERMISSIONS[name]?.roles.join(', ')}`);
      }
    }
    const refusals = services.audited.filter(({ outcome }) => outcome === 'PERMISSION_DENIED');
    expect(refusals).toHaveLength(ROLES.length - allowed.length);
  });

  it('must be in the table, or the service cannot be offered', () => {
    const method = {
      path: '/lockstep.jobs.Jobs/Forget',
      originalName: 'forget',
      requestStream: false,
      responseStream: false,
    };
    const codec = {
      requestSerialize: Buffer.from,
      requestDeserialize: String,
      responseSerialize: Buffer.from,
      responseDeserialize: String,
    };
    const guard = { secured: true, audit: { record: () => undefined, objection: undefined } };
    expect(() => guarded({ Forget: { ...method, ...codec } }, { forget: () => undefined }, guard)).toThrow(
      'Jobs.Forget is not in the table of permissions',
    );
  });
});

describe('nobody is let in', () => {
  const refused = { code: status.UNAVAILABLE };

  it('without TLS', async () => {
    expect(await endOf('Jobs.List', undefined)).toMatchObject(refused);
  });

  it('with an expired certificate, one that is not valid yet, or one of another cluster', async () => {
    const { fromMs, toMs } = validForDays(1);
    const tomorrow = { fromMs: fromMs + 2 * 86_400_000, toMs: toMs + 2 * 86_400_000 };
    const foreign = { ...(await others.credentialsOf('admin', 'anna')), ca: authority.ca };
    for (const bad of [
      await authority.credentialsOf('admin', 'anna', expired()),
      await authority.credentialsOf('admin', 'anna', tomorrow),
      foreign,
    ]) {
      expect(await endOf('Jobs.List', bad)).toMatchObject(refused);
    }
    expect(services.audited).toEqual([]);
  });

  it('without a certificate', async () => {
    const client = new JobsClient(services.address, joinChannelCredentials(authority.ca), TLS_CHANNEL_OPTIONS);
    clients.push(client);
    const error = await new Promise<ServiceError | null>((resolve) => client['List']?.({}, resolve));
    expect(error).toMatchObject({
      ...refused,
      details: expect.stringMatching(/alert certificate required|ECONNRESET/),
    });
  });

  it('as somebody without a role', async () => {
    const folder = await authority.folderFor({ kind: 'etcd', name: 'e1', addresses: ['127.0.0.1'] });
    const read = (file: string) => readFileSync(`${folder}/${file}.pem`, 'utf8');
    const nobody = {
      ca: read('ca'),
      certificate: read('cert'),
      key: read('key'),
      identity: { role: 'admin', name: 'x' },
      expiresMs: 0,
    } as const;
    expect(await endOf('Jobs.List', nobody)).toMatchObject({
      code: status.UNAUTHENTICATED,
      details: 'Jobs.List: the certificate names nobody of Lockstep',
    });
  });
});

describe('a coordinator', () => {
  it('of another name, or a worker in its place, is not believed', async () => {
    for (const [role, name] of [
      ['coordinator', 'c2'],
      ['worker', 'c1'],
    ] as const) {
      const impostor = await SecuredServices.start(new TestSource(await authority.credentialsOf(role, name)));
      try {
        const client = impostor.client(JobsClient, owned.get('admin'));
        const error = await new Promise<ServiceError | null>((resolve) => client['List']?.({}, resolve));
        expect(error).toMatchObject({
          code: status.UNAVAILABLE,
          details: expect.stringContaining(`the certificate is that of ${role} ${name}, not of coordinator c1`),
        });
      } finally {
        impostor.close();
      }
    }
  });

  it('believes the old and the new authority while one replaces the other', async () => {
    const both = `${authority.ca}\n${others.ca}`;
    const next = await others.credentialsOf('admin', 'anna');
    source.replace({ ...source.current, ca: both });
    expect(await endOf('Jobs.List', { ...next, ca: both })).toEqual({ code: status.OK });
    expect(await endOf('Jobs.List', owned.get('admin'))).toEqual({ code: status.OK });
    source.replace(await authority.credentialsOf('coordinator', 'c1'));
    expect(await endOf('Jobs.List', { ...next, ca: both })).toMatchObject({ code: status.UNAVAILABLE });
  });

  it('shows its new certificate to whoever comes after it was replaced', async () => {
    const late = await authority.credentialsOf('coordinator', 'c9');
    source.replace(late);
    const { details } = await endOf('Jobs.List', owned.get('admin'));
    expect(details).toContain('that of coordinator c9, not of coordinator c1');
    source.replace(await authority.credentialsOf('coordinator', 'c1'));
    expect(await endOf('Jobs.List', owned.get('admin'))).toEqual({ code: status.OK });
  });
});

it('nothing is changed that could not be written down; who only reads is answered', async () => {
  services.objection = 'the audit log is full';
  try {
    for (const [name, { changes }] of Object.entries(PERMISSIONS)) {
      if (!changes) continue;
      const details = 'the audit log is full';
      expect(await endOf(name, owned.get('admin'))).toMatchObject({ code: status.RESOURCE_EXHAUSTED, details });
    }
    expect(services.events).toEqual([]);
    expect(services.audited.every(({ outcome }) => outcome === 'RESOURCE_EXHAUSTED')).toBe(true);
    expect(await endOf('Jobs.List', owned.get('viewer'))).toEqual({ code: status.OK });
  } finally {
    services.objection = undefined;
  }
});

describe('a job', () => {
  it('is that of whoever has the certificate, whatever the request claims', async () => {
    const request = { operationId: 'o1', spec, bundle: '/b', output: '/o', checkpoints: '/c', user: 'root' };
    await endOf('Jobs.Submit', owned.get('submitter'), Object(submitRequest.encode(request, 'SubmitRequest')));
    expect(services.events).toContainEqual(
      expect.objectContaining({ kind: 'submit', submit: expect.objectContaining({ user: 'anna' }) }),
    );
    expect(services.audited).toContainEqual(expect.objectContaining({ who: 'submitter anna', call: 'Jobs.Submit' }));
  });

  it.each(['Cancel', 'Resume'])('of another is out of reach of a submitter: %s', async (method) => {
    const name = `Jobs.${method}`;
    const what = method.toLowerCase();
    const refused = await endOf(name, owned.get('submitter'), { job: 'bobs' });
    const details = `submitter anna may not ${what} job bobs of bob; an admin may`;
    expect(refused).toMatchObject({ code: status.PERMISSION_DENIED, details });
    expect(services.events).toEqual([]);
    expect(services.audited).toEqual([
      expect.objectContaining({
        who: 'submitter anna',
        call: name,
        on: { job: 'bobs' },
        outcome: 'PERMISSION_DENIED',
        reason: details,
      }),
    ]);
    for (const credentials of [owned.get('admin'), await authority.credentialsOf('submitter', 'bob')]) {
      expect((await endOf(name, credentials, { job: 'bobs' }, SHORT_MS)).code).not.toBe(status.PERMISSION_DENIED);
    }
    expect(services.events.filter(({ kind }) => kind === what)).toHaveLength(2);
  });
});

describe('a session', () => {
  const hello = (worker: string) =>
    Object(
      workerMessages.encode(
        {
          messages: [
            {
              ...{ kind: 'hello', worker, incarnation: 'i', host: 'h', pid: 1, peerAddress: '127.0.0.1:1', term: 0 },
              ...{ holding: undefined, measures: false, protocol: PROTOCOL },
              machine: { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 1 },
            },
          ],
        },
        'WorkerMessages',
      ),
    );

  it('speaks for the worker of its certificate', async () => {
    expect((await endOf('Session.Connect', owned.get('worker'), hello('anna'))).code).toBe(status.OK);
    expect(services.events).toContainEqual(expect.objectContaining({ kind: 'session_message' }));
  });

  it('is ended when it says hello as another', async () => {
    const details = 'worker anna may not say hello as w1';
    expect(await endOf('Session.Connect', owned.get('worker'), hello('w1'))).toMatchObject({
      code: status.PERMISSION_DENIED,
      details,
    });
    expect(services.events.filter(({ kind }) => kind === 'session_message')).toEqual([]);
    expect(services.audited).toContainEqual(
      expect.objectContaining({ who: 'worker anna', call: 'Session.Connect', on: { worker: 'w1' }, reason: details }),
    );
  });
});
