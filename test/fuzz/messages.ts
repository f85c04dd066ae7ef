/**
 * Messages of our protocols as bytes: made from the .proto files, with the names and numbers of the cluster under attack put into some of
 * their fields, and then a few bytes changed.
 */
import type { ServiceClientConstructor } from '@grpc/grpc-js';
import fc from 'fast-check';
import { PROTOCOL } from '../../shared/protocol.js';
import {
  BundlesClient,
  JobsClient,
  JoinClient,
  PeerClient,
  SessionClient,
  TokensClient,
} from '../../shared/wire/services.js';
import { wireValues } from '../shared/wire/wire_values.js';
import { anyBytes, nearly } from './mutations.js';

/** What is known of the cluster. */
export interface Known {
  readonly job: string;
  readonly term: number;
  /** The name in which somebody asks who says that he is a worker of the cluster. */
  readonly self: string;
  /** Whoever asks may change nothing, so he may name what exists in whatever he asks. */
  readonly mayChange: boolean;
}

interface Method {
  readonly service: ServiceClientConstructor;
  readonly name: string;
  readonly request: string;
  /** Some texts become one of these. */
  readonly texts: readonly string[];
}

const STRANGE = ['', '../x', '__proto__', '\u202e', 'x'.repeat(5_000), '/etc/passwd', 'x1', 'x2', 'x3'];

/** Whoever may cancel or cordon may do harm; what is looked for here is what nobody may. So those calls name nothing that exists. */
function methodsOf({ job, mayChange }: Known): readonly Method[] {
  const named = [...STRANGE, job, 'w1', 'w2', 'w3'];
  const harmless = mayChange ? STRANGE : named;
  const jobs = (name: string, request: string, texts: readonly string[]): Method => ({
    service: JobsClient,
    name,
    request: `lockstep.jobs.${request}`,
    texts,
  });
  return [
    jobs('Submit', 'SubmitRequest', harmless),
    jobs('Get', 'JobReference', named),
    jobs('List', 'ListRequest', named),
    jobs('Watch', 'WatchRequest', named),
    jobs('Cancel', 'CancelRequest', harmless),
    jobs('Logs', 'LogsRequest', named),
    jobs('Nodes', 'NodesRequest', named),
    jobs('ClusterUsage', 'UsageRequest', named),
    jobs('Audit', 'JobReference', named),
    jobs('Resume', 'ResumeRequest', named),
    jobs('Checkpoints', 'JobReference', named),
    jobs('Cordon', 'CordonRequest', harmless),
    jobs('Uncordon', 'NodeReference', harmless),
    jobs('Drain', 'DrainRequest', harmless),
    { service: TokensClient, name: 'Create', request: 'lockstep.identity.CreateTokenRequest', texts: named },
    { service: SessionClient, name: 'Connect', request: 'lockstep.session.WorkerMessages', texts: named },
    { service: BundlesClient, name: 'Find', request: 'lockstep.bundles.BundleReference', texts: named },
    { service: BundlesClient, name: 'Fetch', request: 'lockstep.bundles.BundleReference', texts: named },
    { service: BundlesClient, name: 'Upload', request: 'lockstep.bundles.UploadMessage', texts: named },
  ];
}

export interface Call {
  readonly path: string;
  readonly messages: fc.Arbitrary<Buffer>;
}

export function coordinatorCalls(known: Known): readonly Call[] {
  return methodsOf(known).map((method) => callOf(method, known));
}

export function joinCall(known: Known): Call {
  return callOf({ service: JoinClient, name: 'Join', request: 'lockstep.identity.JoinRequest', texts: STRANGE }, known);
}

export function peerCall(known: Known): Call {
  const texts = [...STRANGE, known.job, known.self];
  return callOf({ service: PeerClient, name: 'Pull', request: 'lockstep.peer.PullRequest', texts }, known);
}

function callOf({ service, name, request, texts }: Method, known: Known): Call {
  const { job, term, self } = known;
  const method = service.service[name];
  if (method === undefined) throw new Error(`there is no ${name}`);
  const numbers = [0, 1, term - 1, term, term + 1, 2 ** 32 - 1, 2 ** 53 - 1];
  const spice = fc.record({ seed: fc.nat(), share: fc.constantFrom(0, 0.3, 0.7) });
  const valid = fc.tuple(wireValues(request), spice).map(([value, { seed, share }]) => {
    const spiced = spicedValue(value, { random: randomFrom(seed), share, texts, numbers });
    return method.requestSerialize(harmless(spiced, job, self));
  });
  return { path: method.path, messages: fc.oneof(nearly(valid), valid, anyBytes) };
}

interface Spice {
  readonly random: () => number;
  readonly share: number;
  readonly texts: readonly string[];
  readonly numbers: readonly number[];
}

/** Some texts and numbers in a message become ones that mean something. */
function spicedValue(value: unknown, spice: Spice): unknown {
  if (Array.isArray(value)) return value.map((one) => spicedValue(one, spice));
  if (value !== null && typeof value === 'object' && !(value instanceof Uint8Array)) {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, spicedValue(one, spice)]));
  }
  const isNumber = Number.isSafeInteger(value);
  if ((typeof value !== 'string' && !isNumber) || spice.random() >= spice.share) return value;
  const choices = isNumber ? spice.numbers : spice.texts;
  return choices[Math.floor(spice.random() * choices.length)] ?? value;
}

/** A worker is believed what it holds: whoever says that it is w1, or has the job, is taken for that. So nobody says it here. */
function harmless(value: unknown, job: string, self: string): object {
  const request = Object(value);
  for (const { hello } of request.messages ?? []) {
    if (hello === undefined || hello === null) continue;
    if (/^w\d$/.test(hello.worker)) hello.worker = self;
    // Nothing else in it would be looked at.
    hello.protocol = PROTOCOL;
    if (hello.holding?.job === job) hello.holding.job = 'x';
  }
  return request;
}

function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
}
