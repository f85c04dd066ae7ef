/** The Jobs service as the command line uses it: finds the leader, tries again, and gives up with one clear error. */
import { type ClientReadableStream, Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { Credentials } from '../shared/identity/credential_files.js';
import { channelCredentials, TLS_CHANNEL_OPTIONS } from '../shared/identity/grpc_credentials.js';
import { bundleReference, bundleState } from '../shared/wire/bundles.js';
import { type Infer, type MessageCodec, WireError } from '../shared/wire/codec.js';
import { createTokenRequest, type JoinToken, joinToken } from '../shared/wire/identity.js';
import {
  type AuditReport,
  auditReport,
  type Checkpoint,
  cancelRequest,
  checkpointList,
  cordonRequest,
  drainRequest,
  empty,
  type Job,
  type JobEvent,
  type JobSpec,
  job,
  jobEvent,
  jobList,
  jobReference,
  type LogEntry,
  logEntry,
  logsRequest,
  type Node,
  node,
  nodeList,
  nodeReference,
  type ResumeRequest,
  resumeRequest,
  type SubmitRequest,
  submitRequest,
  type Usage,
  usage,
  watchRequest,
} from '../shared/wire/jobs.js';
import { BundlesClient, TokensClient, JobsClient as WireClient } from '../shared/wire/services.js';
import { type Archive, uploadOnce } from './bundle_upload.js';
import { type CallFailure, callFailure } from './call_errors.js';
import { CliError, exitCodes } from './exit_codes.js';
import { loginName } from './login_name.js';
import { Patience } from './patience.js';

/** How long a request is tried again, unless the caller has more patience. */
const REQUEST_MS = 8000;
const TRY_MS = 5000;
/** A request that waits for a checkpoint. */
const SAVE_MS = 1_800_000;
/** How long a stream may stay broken. */
const RECONNECT_MS = 30_000;
/** A stream that held this long was a working one. */
const STEADY_MS = 5000;
/** A stream is opened anew this often, so that every call has a deadline. */
const STREAM_MS = 300_000;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const CHANNEL_OPTIONS = {
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  // Without these a frozen coordinator's stream would hang silently.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  ...TLS_CHANNEL_OPTIONS,
};

type MethodName =
  | 'Submit'
  | 'Get'
  | 'List'
  | 'Watch'
  | 'Cancel'
  | 'Logs'
  | 'Nodes'
  | 'ClusterUsage'
  | 'Audit'
  | 'Resume'
  | 'Checkpoints'
  | 'Cordon'
  | 'Uncordon'
  | 'Drain'
  | 'Find'
  | 'Create';

interface Call<Q, A> {
  readonly method: MethodName;
  readonly request: MessageCodec<Q>;
  readonly answer: MessageCodec<A>;
}

const calls = {
  submit: { method: 'Submit', request: submitRequest, answer: jobReference },
  get: { method: 'Get', request: jobReference, answer: job },
  list: { method: 'List', request: empty, answer: jobList },
  watch: { method: 'Watch', request: watchRequest, answer: jobEvent },
  cancel: { method: 'Cancel', request: cancelRequest, answer: job },
  logs: { method: 'Logs', request: logsRequest, answer: logEntry },
  nodes: { method: 'Nodes', request: empty, answer: nodeList },
  usage: { method: 'ClusterUsage', request: empty, answer: usage },
  audit: { method: 'Audit', request: jobReference, answer: auditReport },
  resume: { method: 'Resume', request: resumeRequest, answer: jobReference },
  checkpoints: { method: 'Checkpoints', request: jobReference, answer: checkpointList },
  cordon: { method: 'Cordon', request: cordonRequest, answer: node },
  uncordon: { method: 'Uncordon', request: nodeReference, answer: node },
  drain: { method: 'Drain', request: drainRequest, answer: node },
  find: { method: 'Find', request: bundleReference, answer: bundleState },
  createToken: { method: 'Create', request: createTokenRequest, answer: joinToken },
} as const;

export interface JobsClientOptions {
  /** host:port of one or more coordinators; any of them can name the leader. */
  readonly servers: readonly string[];
  /** Ends every call. */
  readonly signal: AbortSignal;
  /** How long a request is tried again. */
  readonly requestMs?: number;
  /** Whose jobs are submitted; by default those of whoever runs this process. */
  readonly user?: string | undefined;
  /** Certificates, for a cluster that asks for one. */
  readonly credentials?: Credentials | undefined;
}

/** Which of the prints of a job; without `tail`, all that are kept. */
export interface LogSelection {
  readonly worker?: string | undefined;
  readonly attempt?: number | undefined;
  readonly tail?: number | undefined;
}

export class JobsClient {
  readonly #servers: readonly string[];
  readonly #signal: AbortSignal;
  readonly #requestMs: number;
  readonly #user: string;
  readonly #credentials: Credentials | undefined;
  readonly #clients = new Map<string, InstanceType<typeof WireClient>>();
  /** Ends what is under way. One listener of the signal serves all, however many calls there are. */
  readonly #underWay = new Set<() => void>();
  readonly #abort = (): void => {
    for (const end of this.#underWay) end();
  };
  #address: string;
  #nextServer = 0;

  constructor(options: JobsClientOptions) {
    this.#servers = options.servers;
    this.#signal = options.signal;
    this.#requestMs = options.requestMs ?? REQUEST_MS;
    this.#user = options.user ?? userOfProcess();
    this.#credentials = options.credentials;
    this.#address = options.servers[0] ?? '';
    options.signal.addEventListener('abort', this.#abort);
  }

  async submit(request: Omit<SubmitRequest, 'user'>): Promise<string> {
    return (await this.#ask(calls.submit, { ...request, user: this.#user })).job;
  }

  /** Brings the code of a job to the coordinators, unless they have it. */
  async upload(bundle: Archive, spec: JobSpec): Promise<void> {
    const { whole } = await this.#ask(calls.find, { sha256: bundle.sha256 });
    if (!whole) await this.#persist(() => uploadOnce(this.#connected(), bundle, spec, this.#signal));
  }

  get(reference: string): Promise<Job> {
    return this.#ask(calls.get, { job: reference });
  }

  async list(): Promise<readonly Job[]> {
    return (await this.listed()).jobs;
  }

  /** As many of the newest as fit an answer, and how many do not. */
  async listed(): Promise<Infer<typeof jobList>> {
    return this.#ask(calls.list, {});
  }

  /** With `checkpoint` the state is saved first, however long that takes. */
  cancel(reference: string, checkpoint = false): Promise<Job> {
    return this.#ask(calls.cancel, { job: reference, checkpoint }, checkpoint ? SAVE_MS : undefined);
  }

  async resume(request: ResumeRequest): Promise<string> {
    return (await this.#ask(calls.resume, request)).job;
  }

  async checkpoints(reference: string): Promise<readonly Checkpoint[]> {
    return (await this.#ask(calls.checkpoints, { job: reference })).checkpoints;
  }

  async nodes(): Promise<readonly Node[]> {
    return (await this.nodesAndTime()).nodes;
  }

  /** With the coordinator's clock. */
  nodesAndTime(): Promise<{ readonly nodes: readonly Node[]; readonly timeMs: number }> {
    return this.#ask(calls.nodes, {});
  }

  usage(): Promise<Usage> {
    return this.#ask(calls.usage, {});
  }

  cordon(worker: string, reason: string): Promise<Node> {
    return this.#ask(calls.cordon, { worker, reason });
  }

  uncordon(worker: string): Promise<Node> {
    return this.#ask(calls.uncordon, { worker });
  }

  drain(worker: string, reason: string, deadlineMs: number): Promise<Node> {
    return this.#ask(calls.drain, { worker, reason, deadlineMs });
  }

  createToken(worker: string, lifetimeMs: number): Promise<JoinToken> {
    return this.#ask(calls.createToken, { worker, lifetimeMs });
  }

  audit(reference: string): Promise<AuditReport> {
    return this.#ask(calls.audit, { job: reference });
  }

  /**
   * The events of a job from `fromSequence` on, each once, also across a change of leader: a new one says the steps again that the old one
   * had told but not yet stored.
   */
  async *watch(reference: string, fromSequence: number, follow: boolean): AsyncGenerator<JobEvent> {
    let next = fromSequence;
    let nextStep = 0;
    const open = () => this.#stream(calls.watch, { job: reference, fromSequence: next, follow });
    for await (const event of this.#steadily(open)) {
      if (event.sequence < next) continue;
      next = event.sequence + 1;
      // From a checkpoint on steps are made again, and shown again.
      if (event.kind === 'generationStarted' && event.restoredFrom !== '') nextStep = event.step;
      if (event.kind === 'stepCommitted') {
        if (event.step < nextStep) continue;
        nextStep = event.step + 1;
      }
      yield event;
      if (event.kind === 'jobFinished') return;
    }
  }

  /** What the user's code printed, each line once: a new stream begins anew, also with a new leader, and what was seen is passed over. */
  async *logs(reference: string, follow: boolean, selection: LogSelection = {}): AsyncGenerator<LogEntry> {
    const { worker = '', attempt, tail } = selection;
    const seen = new Map<string, number>();
    const open = () =>
      this.#stream(calls.logs, { job: reference, follow, worker, attempt, tail: seen.size === 0 ? tail : undefined });
    for await (const entry of this.#steadily(open)) {
      const source = `${entry.worker} ${entry.incarnation}`;
      if (entry.number <= (seen.get(source) ?? 0)) continue;
      seen.set(source, entry.number);
      yield entry;
    }
  }

  close(): void {
    this.#signal.removeEventListener('abort', this.#abort);
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  /** Goes on with a new stream where one broke. */
  async *#steadily<A>(open: () => AsyncGenerator<A>): AsyncGenerator<A> {
    const patience = new Patience(RECONNECT_MS);
    for (;;) {
      const openedMs = performance.now();
      try {
        for await (const answer of open()) {
          patience.reset();
          yield answer;
        }
        return;
      } catch (error) {
        const heldMs = performance.now() - openedMs;
        if (heldMs > STEADY_MS) patience.reset();
        if (heldMs < STREAM_MS) await this.#recover(error, patience);
      }
    }
  }

  async #ask<Q, A>(call: Call<Q, A>, request: Q, tryMs = TRY_MS): Promise<A> {
    return this.#persist(() => this.#try(call, request, tryMs));
  }

  async #persist<A>(attempt: () => Promise<A>): Promise<A> {
    const patience = new Patience(this.#requestMs);
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        await this.#recover(error, patience);
      }
    }
  }

  #try<Q, A>(call: Call<Q, A>, request: Q, timeoutMs: number): Promise<A> {
    const method = methodOf(call.method);
    return new Promise((resolve, reject) => {
      const running = this.#connected().makeUnaryRequest<unknown, unknown>(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        requestOf(call, request),
        new Metadata(),
        { deadline: Date.now() + timeoutMs },
        (error, answer) => {
          this.#underWay.delete(cancel);
          if (error !== null) reject(error);
          else settle(() => answerOf(call, answer), resolve, reject);
        },
      );
      const cancel = (): void => running.cancel();
      this.#underWay.add(cancel);
      if (this.#signal.aborted) cancel();
    });
  }

  async *#stream<Q, A>(call: Call<Q, A>, request: Q): AsyncGenerator<A> {
    const method = methodOf(call.method);
    const stream: ClientReadableStream<unknown> = this.#connected().makeServerStreamRequest<unknown, unknown>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      requestOf(call, request),
      new Metadata(),
      { deadline: Date.now() + STREAM_MS },
    );
    // Only the status says how a stream ended: 'end' comes in any case.
    const ended = new Promise<StatusObject>((resolve) => stream.once('status', resolve));
    stream.on('error', () => {});
    const cancel = (): void => stream.cancel();
    this.#underWay.add(cancel);
    if (this.#signal.aborted) cancel();
    try {
      for await (const answer of stream) yield answerOf(call, answer);
      const how = await ended;
      if (how.code !== status.OK) throw Object.assign(new Error(how.details), how);
    } finally {
      this.#underWay.delete(cancel);
      stream.cancel();
    }
  }

  /** Waits until the call can be tried again, perhaps elsewhere; throws what the user is told when it cannot. */
  async #recover(error: unknown, patience: Patience): Promise<void> {
    if (this.#signal.aborted) throw new CliError(exitCodes.interrupted, 'interrupted');
    const failure = callFailure(error);
    if (failure.kind === 'final') throw failure.error;
    const pauseMs = patience.nextPauseMs();
    if (pauseMs === undefined) throw givenUp(failure, this.#address);
    if (failure.kind !== 'not_now') {
      const leader = failure.kind === 'not_leader' ? failure.address : undefined;
      this.#address = leader === undefined || leader === this.#address ? this.#otherServer() : leader;
    }
    await this.#pause(pauseMs);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        this.#underWay.delete(end);
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#underWay.add(end);
    });
  }

  #otherServer(): string {
    this.#nextServer = (this.#nextServer + 1) % this.#servers.length;
    return this.#servers[this.#nextServer] ?? this.#address;
  }

  #connected(): InstanceType<typeof WireClient> {
    const known = this.#clients.get(this.#address);
    if (known !== undefined) return known;
    const credentials = channelCredentials(this.#credentials, { role: 'coordinator' });
    const client = new WireClient(this.#address, credentials, CHANNEL_OPTIONS);
    this.#clients.set(this.#address, client);
    return client;
  }
}

function givenUp(failure: Exclude<CallFailure, { kind: 'final' }>, address: string): CliError {
  switch (failure.kind) {
    case 'not_leader':
      return new CliError(
        exitCodes.unreachable,
        `${address}: no coordinator leads; look at the coordinators' logs and at etcd`,
      );
    case 'unreachable':
      return new CliError(
        exitCodes.unreachable,
        `${address}: no coordinator answers (${failure.reason}); check --server`,
      );
    case 'not_now':
      return new CliError(exitCodes.unreachable, `${address}: ${failure.reason}`);
    case 'too_late':
      return new CliError(exitCodes.timedOut, `${address}: the coordinator did not answer in time`);
  }
}

/** Names that are no users of ours (spaces, letters of other scripts) become ones. */
function userOfProcess(): string {
  const name = loginName()
    .replace(/[^A-Za-z0-9._-]/g, '_')
    .slice(0, 63);
  return /^[A-Za-z0-9]/.test(name) ? name : `u${name.slice(1)}`;
}

/** Throws a CliError for what cannot be asked, such as a name that is too long. */
function requestOf<Q, A>({ method, request }: Call<Q, A>, value: Q): unknown {
  try {
    return request.encode(value, method);
  } catch (error) {
    throw error instanceof WireError ? new CliError(exitCodes.usage, error.message) : error;
  }
}

/** Throws a CliError for what cannot be understood, such as what a coordinator of another version says. */
function answerOf<Q, A>({ method, answer }: Call<Q, A>, value: unknown): A {
  try {
    return answer.decode(value, method);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    const message = `the coordinator's answer cannot be understood (${error.message}); is it of another version?`;
    throw new CliError(exitCodes.jobFailed, message);
  }
}

/** Where an error that is thrown would be nobody's. */
function settle<A>(make: () => A, resolve: (made: A) => void, reject: (error: unknown) => void): void {
  try {
    resolve(make());
  } catch (error) {
    reject(error);
  }
}

function methodOf(name: MethodName) {
  const method = WireClient.service[name] ?? BundlesClient.service[name] ?? TokensClient.service[name];
  if (method === undefined) throw new Error(`the .proto files have no method ${name}`);
  return method;
}
