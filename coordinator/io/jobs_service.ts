/** The jobs service: what users ask for. Reading is a pure function of the state; writing goes through the core. */
import {
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { customAlphabet, nanoid } from 'nanoid';
import { problemOfReference, sha256OfReference } from '../../shared/bundle/reference.js';
import { callerOf } from '../../shared/identity/caller.js';
import { described } from '../../shared/identity/identity.js';
import { validateJobSpec } from '../../shared/job_spec.js';
import { NAME, NAME_TEXT } from '../../shared/name.js';
import { isOthersJob } from '../../shared/role.js';
import { type Codec, WireError } from '../../shared/wire/codec.js';
import * as wire from '../../shared/wire/jobs.js';
import type { ReplyErrorCode } from '../core/command.js';
import type { CoordinatorEvent } from '../core/event.js';
import * as logs from '../core/job_logs.js';
import { jobOf } from '../core/job_reference.js';
import { cordonReason } from '../core/nodes.js';
import type { JobRun } from '../core/state.js';
import * as views from '../core/views.js';
import type { Driver, Requests } from './driver.js';
import { notLeading, type Refusal, Refused, refusal, refused } from './refusal.js';

type Unary = ServerUnaryCall<unknown, unknown>;
type Streaming = ServerWritableStream<unknown, unknown>;
type Reply = sendUnaryData<unknown>;

const CODES: Readonly<Record<ReplyErrorCode, status>> = {
  not_found: status.NOT_FOUND,
  invalid: status.INVALID_ARGUMENT,
  unavailable: status.UNAVAILABLE,
  not_stored: status.ABORTED,
  exhausted: status.RESOURCE_EXHAUSTED,
  save_failed: status.INTERNAL,
};

export interface JobsLimits {
  /** Calls that wait for the core, which mostly means for etcd. */
  readonly waiting: number;
  /** Readers of events and logs at the same time. */
  readonly readers: number;
  /** A reader that takes nothing for so long is sent away; it may come back to where it was. */
  readonly slowReaderMs: number;
  /** Of the answer to `list`, about; older jobs are left out. */
  readonly listBytes: number;
}

const LIMITS: JobsLimits = { waiting: 1_000, readers: 1_000, slowReaderMs: 600_000, listBytes: 8 * 1024 * 1024 };

/** Letters and digits only, so that an id can be typed, and be part of a file name. */
const newJobId = customAlphabet('0123456789abcdefghijklmnopqrstuvwxyz', 10);

/** Somebody who reads a job's events or logs: a cursor, and a function that writes from it while the stream takes more. */
interface Reader {
  readonly job: string;
  readonly pump: () => void;
  readonly fail: (refusal: Refusal) => void;
}

/** Throws a Refused when a submitter asks for something of another one's job. */
function mustOwn(call: Unary, { record }: JobRun, what: string): void {
  const caller = callerOf(call);
  if (caller === undefined || !isOthersJob(caller, record.user)) return;
  const message = `${described(caller)} may not ${what} job ${record.job} of ${record.user}; an admin may`;
  throw refused(status.PERMISSION_DENIED, message);
}

/** Which archives of code are there, whole. */
export interface Bundles {
  holds(sha256: string): boolean;
}

export class JobsService implements Requests {
  readonly #driver: Driver;
  readonly #leader: () => string | undefined;
  readonly #bundles: Bundles;
  readonly #limits: JobsLimits;
  readonly #waiting = new Map<string, { readonly reply: Reply; readonly answer: (subject: string) => unknown }>();
  readonly #readers = new Set<Reader>();

  readonly #drop: (peer: string) => void;

  /** `drop` ends the connection of a peer. */
  constructor(
    driver: Driver,
    leader: () => string | undefined,
    bundles: Bundles,
    drop: (peer: string) => void,
    limits = LIMITS,
  ) {
    this.#limits = limits;
    this.#drop = drop;
    this.#driver = driver;
    this.#leader = leader;
    this.#bundles = bundles;
  }

  get implementation(): UntypedServiceImplementation {
    const unary = (handle: (request: unknown, reply: Reply, call: Unary) => void) => (call: Unary, reply: Reply) =>
      this.#guard(
        () => handle(call.request, reply, call),
        (error) => reply(error, null),
      );
    const streaming = (handle: (call: Streaming) => void) => (call: Streaming) => {
      call.on('error', () => undefined);
      this.#guard(
        () => handle(call),
        (error) => call.emit('error', error),
      );
    };
    return {
      submit: unary((_, reply, call) => this.#submit(call, reply)),
      get: unary((request, reply) => reply(null, this.#view(this.#find(request)))),
      list: unary((_, reply) =>
        reply(null, this.#encode(wire.jobList, views.newestJobs(this.#driver.state, this.#limits.listBytes))),
      ),
      resume: unary((_, reply, call) => this.#resume(call, reply)),
      checkpoints: unary((request, reply) => {
        const checkpoints = views.checkpointsView(this.#find(request));
        reply(null, this.#encode(wire.checkpointList, { checkpoints }));
      }),
      cancel: unary((_, reply, call) => this.#cancel(call, reply)),
      nodes: unary((_, reply) => {
        const nodes = views.nodesView(this.#driver.state, performance.now());
        reply(null, this.#encode(wire.nodeList, { nodes, timeMs: Date.now() }));
      }),
      clusterUsage: unary((_, reply) => {
        const now = { nowMs: performance.now(), wallMs: Date.now() };
        reply(null, this.#encode(wire.usage, views.usageView(this.#driver.state, now)));
      }),
      cordon: unary((request, reply) => {
        const { worker, reason } = wire.cordonRequest.decode(request, 'CordonRequest');
        this.#askOfNode(reply, (id) => ({ kind: 'cordon', request: id, worker, reason: cordonReason(reason) }));
      }),
      uncordon: unary((request, reply) => {
        const { worker } = wire.nodeReference.decode(request, 'NodeReference');
        this.#askOfNode(reply, (id) => ({ kind: 'uncordon', request: id, worker }));
      }),
      drain: unary((request, reply) => {
        const { worker, reason, deadlineMs } = wire.drainRequest.decode(request, 'DrainRequest');
        this.#askOfNode(reply, (id) => ({
          kind: 'drain',
          request: id,
          worker,
          reason: cordonReason(reason),
          deadlineMs,
        }));
      }),
      audit: unary((request, reply) =>
        reply(null, this.#encode(wire.auditReport, views.auditView(this.#find(request)))),
      ),
      watch: streaming((call) => this.#watch(call)),
      logs: streaming((call) => this.#logs(call)),
    };
  }

  reply(request: string, job: string): void {
    const waiting = this.#waiting.get(request);
    this.#waiting.delete(request);
    waiting?.reply(null, waiting.answer(job));
  }

  replyNode(request: string, worker: string): void {
    this.reply(request, worker);
  }

  replyError(request: string, code: ReplyErrorCode, message: string): void {
    const waiting = this.#waiting.get(request);
    this.#waiting.delete(request);
    waiting?.reply(refusal(CODES[code], message), null);
  }

  publish(job: string): void {
    for (const reader of this.#readers) if (reader.job === job) reader.pump();
  }

  /** This coordinator leads no more: its readers must go to the next one. */
  deposed(): void {
    for (const reader of [...this.#readers]) reader.fail(notLeading(this.#leader()));
  }

  #guard(handle: () => void, refuse: (error: Refusal) => void): void {
    try {
      if (this.#driver.state.leading === undefined) throw new Refused(notLeading(this.#leader()));
      handle();
    } catch (error) {
      if (error instanceof Refused) refuse(error.refusal);
      else if (error instanceof WireError) refuse(refusal(status.INVALID_ARGUMENT, error.message));
      else throw error;
    }
  }

  #encode<T>(codec: Codec<T>, value: T): unknown {
    return codec.encode(value, 'answer');
  }

  #view(run: JobRun): unknown {
    return this.#encode(wire.job, views.jobView(this.#driver.state, run));
  }

  #find(request: unknown): JobRun {
    const { job } = wire.jobReference.decode(request, 'JobReference');
    return this.#run(job);
  }

  #run(job: string): JobRun {
    const referred = jobOf(this.#driver.state, job);
    if (referred.kind === 'unclear') throw refused(status.NOT_FOUND, referred.problem);
    return referred.run;
  }

  #submit(call: Unary, reply: Reply): void {
    const asked = wire.submitRequest.decode(call.request, 'SubmitRequest');
    // Who has a certificate submits in his own name, whatever he says.
    const submit = { ...asked, user: callerOf(call)?.name ?? asked.user };
    const problem = validateJobSpec(submit.spec);
    if (problem !== undefined) {
      throw refused(status.INVALID_ARGUMENT, `${problem.field}: ${problem.problem}`);
    }
    if (!NAME.test(submit.user)) {
      const message = `user: must be ${NAME_TEXT}`;
      throw refused(status.INVALID_ARGUMENT, message);
    }
    if (!/^(\/|s3:\/\/[^/])/.test(submit.checkpoints)) {
      const message = 'checkpoints: must be an absolute path or s3://bucket/prefix';
      throw refused(status.INVALID_ARGUMENT, message);
    }
    const unusable = problemOfReference(submit.bundle);
    if (unusable !== undefined) throw refused(status.INVALID_ARGUMENT, `bundle: ${unusable}`);
    if (!this.#hasCode(submit.bundle)) {
      throw refused(status.NOT_FOUND, 'bundle: the code is not kept, or not whole; submit its job file again');
    }
    const id = this.#wait(reply, (job) => this.#encode(wire.jobReference, { job }));
    this.#driver.dispatch({ kind: 'submit', request: id, job: newJobId(), submit });
  }

  /** What follows is done in the same turn of the event loop, and an archive that a submit under way refers to is not removed. */
  #hasCode(bundle: string): boolean {
    const sha256 = sha256OfReference(bundle);
    return sha256 === undefined || this.#bundles.holds(sha256);
  }

  #resume(call: Unary, reply: Reply): void {
    const resume = wire.resumeRequest.decode(call.request, 'ResumeRequest');
    const run = this.#run(resume.job);
    mustOwn(call, run, 'resume');
    const { job: parent, bundle } = run.record;
    if (!this.#hasCode(bundle)) {
      const message = `the code of job ${parent} had to make room for that of newer jobs; submit its job file with --init-from`;
      throw refused(status.NOT_FOUND, message);
    }
    const id = this.#wait(reply, (job) => this.#encode(wire.jobReference, { job }));
    this.#driver.dispatch({ kind: 'resume', request: id, job: newJobId(), resume: { ...resume, job: parent } });
  }

  #cancel(call: Unary, reply: Reply): void {
    const { job, checkpoint } = wire.cancelRequest.decode(call.request, 'CancelRequest');
    const run = this.#run(job);
    mustOwn(call, run, 'cancel');
    const id = this.#wait(reply, () => this.#view(run));
    this.#driver.dispatch({ kind: 'cancel', request: id, job: run.record.job, checkpoint });
  }

  #askOfNode(reply: Reply, event: (request: string) => CoordinatorEvent): void {
    this.#driver.dispatch(event(this.#wait(reply, (worker) => this.#nodeAnswer(worker))));
  }

  /** A request that the core answers, also when whoever asked is gone by then: what it does is not undone by that. */
  #wait(reply: Reply, answer: (subject: string) => unknown): string {
    if (this.#waiting.size >= this.#limits.waiting) {
      throw refused(status.RESOURCE_EXHAUSTED, `${this.#limits.waiting} requests wait already; try again later`);
    }
    const id = nanoid();
    this.#waiting.set(id, { reply, answer });
    return id;
  }

  /** A worker that is not there has nothing but its name and what was decided about it. */
  #nodeAnswer(name: string): unknown {
    const { state } = this.#driver;
    const worker = state.workers.get(name);
    const node =
      worker === undefined ? views.absentNode(state, name) : views.nodeView(state, worker, performance.now());
    return this.#encode(wire.node, node);
  }

  #watch(call: Streaming): void {
    const { job, fromSequence, follow } = wire.watchRequest.decode(call.request, 'WatchRequest');
    const run = this.#run(job);
    let next = fromSequence;
    this.#read(call, run, follow, () => {
      const event = run.events.from(next);
      if (event === undefined) return undefined;
      next = event.sequence + 1;
      return this.#encode(wire.jobEvent, event);
    });
  }

  #logs(call: Streaming): void {
    const { job, follow, worker, tail, attempt } = wire.logsRequest.decode(call.request, 'LogsRequest');
    const run = this.#run(job);
    const wanted = { worker, attempt };
    let next: number | undefined;
    const take = () => {
      next ??= this.#firstLine(run, wanted, { follow, tail });
      const { entry, line } = logs.lineFrom(run, next, wanted);
      next = line;
      if (entry === undefined) return undefined;
      next = line + 1;
      return this.#encode(wire.logEntry, entry);
    };
    this.#read(call, run, follow, take, () => logs.isReadable(run));
  }

  /** Whoever follows may wait for a worker, or an attempt, that is still to come. */
  #firstLine(
    run: JobRun,
    wanted: logs.LogSelection,
    { follow, tail }: { readonly follow: boolean; readonly tail: number | undefined },
  ): number {
    const problem = follow && !views.hasEnded(run) ? undefined : logs.problemOfSelection(run, wanted);
    if (problem !== undefined) throw refused(status.NOT_FOUND, problem);
    return tail === undefined ? 0 : logs.tailOf(run, wanted, tail);
  }

  /** Writes what `take` gives while the stream takes more, once it `isReady`. A slow reader holds a cursor, never a queue. */
  #read(call: Streaming, run: JobRun, follow: boolean, take: () => unknown, isReady = () => true): void {
    const { readers, slowReaderMs } = this.#limits;
    if (this.#readers.size >= readers) {
      throw refused(status.RESOURCE_EXHAUSTED, `${readers} readers are connected already`);
    }
    let full = false;
    let isOver = false;
    let overdue: NodeJS.Timeout | undefined;
    const waitForIt = () => {
      clearTimeout(overdue);
      overdue = setTimeout(() => this.#drop(call.getPeer()), slowReaderMs);
    };
    /** What was written before is still to be read. */
    const end = (how: () => void) => {
      if (isOver) return;
      isOver = true;
      waitForIt();
      how();
    };
    const gone = () => {
      isOver = true;
      clearTimeout(overdue);
      this.#readers.delete(reader);
    };
    const pump = (): void => {
      if (!isReady()) return;
      while (!full && !isOver) {
        const one = take();
        if (one === undefined) break;
        full = !call.write(one);
        if (full) waitForIt();
      }
      if (!full && (!follow || views.hasEnded(run))) end(() => call.end());
    };
    const fail = (error: Refusal): void => end(() => call.emit('error', error));
    const reader: Reader = { job: run.record.job, fail, pump: () => this.#guard(pump, fail) };
    this.#readers.add(reader);
    call.on('drain', () => {
      if (!isOver) clearTimeout(overdue);
      full = false;
      reader.pump();
    });
    for (const event of ['finish', 'cancelled', 'close']) call.on(event, gone);
    reader.pump();
  }
}
