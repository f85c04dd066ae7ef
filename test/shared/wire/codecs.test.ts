import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as bundles from '../../../shared/wire/bundles.js';
import {
  type Codec,
  choice,
  message,
  optional,
  text,
  uint32,
  uint53,
  union,
  WireError,
} from '../../../shared/wire/codec.js';
import * as identity from '../../../shared/wire/identity.js';
import * as jobs from '../../../shared/wire/jobs.js';
import { pullRequest } from '../../../shared/wire/peer.js';
import {
  BundlesClient,
  JobsClient,
  JoinClient,
  PeerClient,
  SessionClient,
  TokensClient,
} from '../../../shared/wire/services.js';
import * as session from '../../../shared/wire/session.js';
import { wireValues } from './wire_values.js';

interface Case {
  readonly name: string;
  readonly codec: Codec<unknown>;
  readonly throughBytes: (wire: unknown) => unknown;
}

function request(service: typeof JobsClient.service, method: string): Case['throughBytes'] {
  const definition = service[method];
  if (definition === undefined) throw new Error(`no method ${method}`);
  return (wire) => definition.requestDeserialize(definition.requestSerialize(wire));
}

function response(service: typeof JobsClient.service, method: string): Case['throughBytes'] {
  const definition = service[method];
  if (definition === undefined) throw new Error(`no method ${method}`);
  return (wire) => definition.responseDeserialize(definition.responseSerialize(wire));
}

/** The only one of those that are said together. */
function alone(wire: unknown): unknown {
  const { messages } = Object(wire);
  expect(messages).toHaveLength(1);
  return messages[0];
}

const cases: readonly Case[] = [
  { name: 'jobs.SubmitRequest', codec: jobs.submitRequest, throughBytes: request(JobsClient.service, 'Submit') },
  { name: 'jobs.JobReference', codec: jobs.jobReference, throughBytes: request(JobsClient.service, 'Get') },
  { name: 'jobs.Job', codec: jobs.job, throughBytes: response(JobsClient.service, 'Get') },
  { name: 'jobs.JobList', codec: jobs.jobList, throughBytes: response(JobsClient.service, 'List') },
  { name: 'jobs.WatchRequest', codec: jobs.watchRequest, throughBytes: request(JobsClient.service, 'Watch') },
  { name: 'jobs.Event', codec: jobs.jobEvent, throughBytes: response(JobsClient.service, 'Watch') },
  { name: 'jobs.CancelRequest', codec: jobs.cancelRequest, throughBytes: request(JobsClient.service, 'Cancel') },
  { name: 'jobs.ResumeRequest', codec: jobs.resumeRequest, throughBytes: request(JobsClient.service, 'Resume') },
  {
    name: 'jobs.CheckpointList',
    codec: jobs.checkpointList,
    throughBytes: response(JobsClient.service, 'Checkpoints'),
  },
  { name: 'jobs.LogsRequest', codec: jobs.logsRequest, throughBytes: request(JobsClient.service, 'Logs') },
  { name: 'jobs.LogEntry', codec: jobs.logEntry, throughBytes: response(JobsClient.service, 'Logs') },
  { name: 'jobs.NodeList', codec: jobs.nodeList, throughBytes: response(JobsClient.service, 'Nodes') },
  { name: 'jobs.AuditReport', codec: jobs.auditReport, throughBytes: response(JobsClient.service, 'Audit') },
  {
    name: 'session.WorkerMessage',
    codec: session.workerMessage,
    throughBytes: (wire) => alone(request(SessionClient.service, 'Connect')({ messages: [wire] })),
  },
  {
    name: 'session.CoordinatorMessage',
    codec: session.coordinatorMessage,
    throughBytes: response(SessionClient.service, 'Connect'),
  },
  { name: 'bundles.BundleState', codec: bundles.bundleState, throughBytes: response(BundlesClient.service, 'Find') },
  {
    name: 'bundles.BundleReference',
    codec: bundles.bundleReference,
    throughBytes: request(BundlesClient.service, 'Fetch'),
  },
  { name: 'bundles.BundlePiece', codec: bundles.bundlePiece, throughBytes: response(BundlesClient.service, 'Fetch') },
  {
    name: 'bundles.UploadMessage',
    codec: bundles.uploadMessage,
    throughBytes: request(BundlesClient.service, 'Upload'),
  },
  {
    name: 'identity.CreateTokenRequest',
    codec: identity.createTokenRequest,
    throughBytes: request(TokensClient.service, 'Create'),
  },
  { name: 'identity.JoinToken', codec: identity.joinToken, throughBytes: response(TokensClient.service, 'Create') },
  { name: 'identity.JoinRequest', codec: identity.joinRequest, throughBytes: request(JoinClient.service, 'Join') },
  { name: 'identity.JoinAnswer', codec: identity.joinAnswer, throughBytes: response(JoinClient.service, 'Join') },
  { name: 'peer.PullRequest', codec: pullRequest, throughBytes: request(PeerClient.service, 'Pull') },
];

describe('the wire', () => {
  it.each(cases)(
    'carries every field of $name through our types and through bytes unchanged',
    ({ name, codec, throughBytes }) => {
      fc.assert(
        fc.property(wireValues(`lockstep.${name}`), (wire) => {
          const ours = codec.decode(wire, name);
          // Every field of the .proto file survives: a field that the codec does not know would be missing here.
          const again = codec.encode(ours, name);
          const { message: _message, event: _event, ...fields } = wire;
          expect(again).toEqual(fields);
          expect(codec.decode(throughBytes(again), name)).toEqual(ours);
        }),
        { numRuns: 100 },
      );
    },
  );

  it('refuses what is missing, of the wrong type or out of bounds, and names the field', () => {
    const codec = message({ job: text(4), count: uint32, big: uint53, tail: choice({ drop: 'DROP' }) });
    const good = { job: 'a', count: 1, big: Number.MAX_SAFE_INTEGER, tail: 'DROP' };
    expect(codec.decode(good, 'M')).toEqual({ job: 'a', count: 1, big: Number.MAX_SAFE_INTEGER, tail: 'drop' });
    const bad: readonly (readonly [object, string])[] = [
      [{ job: 'abcde' }, 'M.job: is longer than 4 characters'],
      [{ job: undefined }, 'M.job: must be text'],
      [{ count: -1 }, 'M.count: must be a non-negative whole number'],
      [{ count: 2 ** 32 }, 'M.count: is larger than 4294967295'],
      [{ big: 2 ** 53 }, 'M.big: is larger than 9007199254740991'],
      [{ big: '9007199254740993' }, 'M.big: is larger than 9007199254740991'],
      [{ big: '1e3' }, 'M.big: must be a non-negative whole number'],
      [{ tail: 'TAIL_UNSPECIFIED' }, 'M.tail: has no value "TAIL_UNSPECIFIED"'],
      [{ tail: 7 }, 'M.tail: has no value 7'],
    ];
    // As it was stored before.
    expect(codec.decode({ ...good, big: '9007199254740991' }, 'M')).toEqual(codec.decode(good, 'M'));
    for (const [change, problem] of bad) {
      expect(() => codec.decode({ ...good, ...change }, 'M')).toThrow(WireError);
      expect(() => codec.decode({ ...good, ...change }, 'M')).toThrow(problem);
    }
    expect(() => codec.decode(null, 'M')).toThrow('M: is missing');
  });

  it('refuses a message whose variant is absent or unknown, and one that is named like a property of Object', () => {
    const codec = union('message', { hello: message({ name: text() }) }, { term: uint53 });
    expect(codec.decode({ message: 'hello', hello: { name: 'x' }, term: '3' }, 'M')).toEqual({
      kind: 'hello',
      name: 'x',
      term: 3,
    });
    expect(() => codec.decode({ term: '3' }, 'M')).toThrow('M: has no known message');
    expect(() => codec.decode({ message: 'constructor', term: '3' }, 'M')).toThrow('M: has no known message');
  });

  it('refuses from a worker whatever cannot be added up and stored', () => {
    const bad = [Number.NaN, Number.POSITIVE_INFINITY, 1e300, -1];
    const step = { job: 'j', generation: 1, step: 0, loss: Number.NaN, weight: 0, consumed: Buffer.alloc(0) };
    const times = { stepMs: 1, computeMs: 1, reduceMs: 1, applyMs: 1, dataMs: 1, gatherMs: 1 };
    const decode = (change: object) => {
      const stepCommitted = { ...step, ...times, pulledBytes: 0, skipped: false, ...change };
      return session.workerMessage.decode({ message: 'stepCommitted', stepCommitted }, 'M');
    };
    expect(decode({})).toMatchObject({ kind: 'stepCommitted', loss: Number.NaN });
    for (const time of Object.keys(times))
      for (const ms of bad) expect(() => decode({ [time]: ms })).toThrow(WireError);
    const evaluated = { job: 'j', committed: 1, metrics: { accuracy: Number.NaN } };
    expect(() => session.workerMessage.decode({ message: 'evaluated', evaluated }, 'M')).toThrow(
      'M.evaluated.metrics.accuracy: must be finite',
    );
  });

  it('leaves an absent optional field out', () => {
    const codec = message({ loss: optional(uint32) });
    expect(codec.encode({}, 'M')).toEqual({});
    expect(codec.decode({ loss: null }, 'M')).toEqual({});
    expect(codec.decode({ loss: 0 }, 'M')).toEqual({ loss: 0 });
  });
});
