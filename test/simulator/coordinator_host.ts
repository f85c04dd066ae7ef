/** A coordinator daemon: the real core, driven as coordinator/io/ drives it, over simulated everything else. */

import { apply } from '../../coordinator/core/apply.js';
import type { CoordinatorCommand } from '../../coordinator/core/command.js';
import type { CoordinatorEvent } from '../../coordinator/core/event.js';
import { type CoordinatorState, DEFAULT_SETTINGS, initialState } from '../../coordinator/core/state.js';
import type { ResumeRequest, SubmitRequest } from '../../shared/wire/jobs.js';
import type { CoordinatorMessage, WorkerMessage } from '../../shared/wire/session.js';
import { Election } from './election.js';
import { SimulatedProcess } from './process.js';
import { Session, type SessionEnd } from './session.js';
import { Store } from './store.js';
import { textOf } from './text_of.js';
import { Violation, type World } from './world.js';

export type Reply =
  | { readonly kind: 'done'; readonly job: string }
  | { readonly kind: 'refused'; readonly code: string };

const MOST_WAITING = 2_000;
/** A leader that is told to stop stays for so long to hear which workers leave, and then until their states are saved. */
const HEAR_LEAVERS_MS = 250;
const SAVE_MS = 60_000;
const LOOK_MS = 50;
/** Minutes would be longer than most clusters run here. */
const SHORTENED = { askMs: 10_000, saveMs: 20_000, measureMs: 4_000, remeasureMs: 3_000, accountsMs: 2_000 };
const SCHEDULING = { ...DEFAULT_SETTINGS.scheduling, quarantineAfter: 3 };
/** Longer than what a request can wait for: two saves and what is asked for before each. */
const LONGEST_REQUEST_MS = 90_000;

interface Request {
  readonly sinceMs: number;
  readonly answer: (reply: Reply) => void;
}

export class CoordinatorHost extends SimulatedProcess {
  readonly state: CoordinatorState;
  readonly store = new Store(this);
  readonly #election: Election;
  readonly #sessions = new Map<string, Session>();
  readonly #requests = new Map<string, Request>();
  readonly #queue: CoordinatorEvent[] = [];
  #draining = false;
  #counter = 0;

  constructor(
    world: World,
    name: string,
    private readonly restarts: number,
  ) {
    super(world, name);
    this.state = initialState({ ...DEFAULT_SETTINGS, ...SHORTENED, scheduling: SCHEDULING, name, eventLimit: 300 });
    this.#election = new Election({
      process: this,
      ttlMs: world.scenario.ttlMs,
      onElected: (term) => this.#lead(term),
      onDeposed: () => this.#dispatch({ kind: 'deposed' }),
    });
  }

  broken(invariant: string, detail: string): never {
    throw new Violation(invariant, `${this.name}: ${detail}`);
  }

  get #nextId(): string {
    this.#counter += 1;
    return `${this.name}.${this.restarts}.${this.#counter}`;
  }

  /** SIGTERM: it gives up its leadership before it exits. */
  stop(): void {
    this.deliver(() => this.#stopWhenSaved(0));
  }

  #stopWhenSaved(waitedMs: number): void {
    const leave = [...this.state.workers.values()].some(({ leaving, job }) => leaving && job !== undefined);
    const waits = waitedMs <= HEAR_LEAVERS_MS || leave;
    if (this.state.leading !== undefined && waitedMs < SAVE_MS && waits) {
      this.later(LOOK_MS, () => this.#stopWhenSaved(waitedMs + LOOK_MS));
    } else {
      this.#election.resign();
      this.later(50, () => this.die());
    }
  }

  override die(): void {
    super.die();
    if (this.vanished) return;
    for (const session of this.#sessions.values()) session.closeByCoordinator('the coordinator died');
    for (const { answer } of this.#requests.values()) answer({ kind: 'refused', code: 'connection reset' });
  }

  protected ticked(): void {
    this.#election.ticked();
    this.#dispatch({ kind: 'ticked' });
    for (const { sinceMs } of this.#requests.values()) {
      if (this.nowMs - sinceMs > LONGEST_REQUEST_MS) this.broken('I11', 'a request waits and is never answered');
    }
  }

  /** A worker connects; undefined if this coordinator refuses it. */
  accept(worker: SessionEnd<CoordinatorMessage>): Session | undefined {
    if (this.state.leading === undefined) return undefined;
    const id = this.#nextId;
    const session = new Session(worker, {
      process: this,
      onMessage: (message: WorkerMessage) => {
        if (this.#sessions.has(id)) this.#dispatch({ kind: 'session_message', session: id, message });
      },
      onClosed: (reason) => {
        if (this.#sessions.delete(id)) this.#dispatch({ kind: 'session_closed', session: id, reason });
      },
    });
    this.#sessions.set(id, session);
    return session;
  }

  #request(answer: (reply: Reply) => void): string {
    const request = this.#nextId;
    this.#requests.set(request, { sinceMs: this.nowMs, answer });
    return request;
  }

  submit(submit: SubmitRequest, reply: (reply: Reply) => void): void {
    const request = this.#request(reply);
    this.#dispatch({ kind: 'submit', request, job: `job-${request}`, submit });
  }

  resume(resume: ResumeRequest, reply: (reply: Reply) => void): void {
    const request = this.#request(reply);
    this.#dispatch({ kind: 'resume', request, job: `job-${request}`, resume });
  }

  /** With `checkpoint` the state is saved first. */
  cancel(job: string, checkpoint: boolean, reply: (reply: Reply) => void): void {
    const request = this.#request(reply);
    this.#dispatch({ kind: 'cancel', request, job, checkpoint });
  }

  /** Cordons a worker, and with a deadline drains it. */
  changeNode(worker: string, deadlineMs: number | undefined): void {
    const request = this.#request(() => undefined);
    const reason = 'by the simulated operator';
    if (deadlineMs === undefined) this.#dispatch({ kind: 'cordon', request, worker, reason });
    else this.#dispatch({ kind: 'drain', request, worker, reason, deadlineMs });
  }

  uncordon(worker: string, reply: (reply: Reply) => void): void {
    this.#dispatch({ kind: 'uncordon', request: this.#request(reply), worker });
  }

  #lead(term: number): void {
    const { etcd } = this.world;
    etcd.call(
      this,
      () => ({
        jobs: [...etcd.jobs.values()],
        generations: [...etcd.generations.values()],
        checkpoints: [...etcd.checkpoints.values()],
        nodes: [...etcd.nodes.values()],
        accounts: etcd.accounts,
      }),
      (result) => {
        if (this.#election.term() !== term) return;
        if (result.kind === 'failed') this.#election.stepDown();
        else this.#dispatch({ kind: 'elected', term, ...result.value });
      },
    );
  }

  #dispatch(event: CoordinatorEvent): void {
    this.#queue.push(event);
    if (this.#draining) return;
    this.#draining = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) this.#handle(next);
    this.#draining = false;
    if (this.state.leading === undefined && this.#requests.size > 0) {
      this.broken('I11', `${this.#requests.size} requests are not answered, and it does not lead any more`);
    }
  }

  #handle(event: CoordinatorEvent): void {
    const { leading } = this.state;
    if (leading !== undefined && event.kind !== 'deposed' && this.#election.term() !== leading.term) {
      this.#apply({ kind: 'deposed' });
    }
    this.#apply(event);
  }

  #apply(event: CoordinatorEvent): void {
    const { oracle, world } = { oracle: this.world.oracle, world: this.world };
    const before = oracle.beforeCoordinator(this, event);
    const commands = apply(this.state, { nowMs: this.nowMs, wallMs: this.wallMs, event });
    if (event.kind !== 'ticked' || commands.length > 0) this.#record(event, commands);
    oracle.afterCoordinator(this, event, commands, before);
    for (const command of commands) this.#execute(command);
    if (event.kind === 'elected') world.onMoment('elected', this.name);
  }

  #record(event: CoordinatorEvent, commands: readonly CoordinatorCommand[]): void {
    const { world } = this;
    world.note(this.name, event.kind, commands.length);
    if (world.print === undefined) return;
    const heartbeat = event.kind === 'session_message' && event.message.kind === 'heartbeat';
    if (!heartbeat) world.say(this.name, `< ${textOf(event)}`);
    for (const command of commands) if (command.kind !== 'publish') world.say(this.name, `    > ${textOf(command)}`);
  }

  #execute(command: CoordinatorCommand): void {
    switch (command.kind) {
      case 'send': {
        const session = this.#sessions.get(command.session);
        session?.sendDown(command.message);
        if ((session?.waiting ?? 0) > MOST_WAITING)
          this.broken('I11', `${session?.waiting} messages wait in one session`);
        break;
      }
      case 'close_session': {
        const session = this.#sessions.get(command.session);
        this.#sessions.delete(command.session);
        session?.closeByCoordinator(command.reason);
        break;
      }
      case 'write':
        this.#write(command);
        break;
      case 'reply':
        this.#reply(command.request, { kind: 'done', job: command.job });
        break;
      case 'reply_node':
        this.#reply(command.request, { kind: 'done', job: command.worker });
        break;
      case 'reply_error':
        this.#reply(command.request, { kind: 'refused', code: command.code });
        break;
      case 'step_down':
        this.#election.stepDown();
        break;
      case 'publish':
      case 'log':
        break;
    }
  }

  #write({ term, operation, puts }: Extract<CoordinatorCommand, { kind: 'write' }>): void {
    this.store.write({ term, operation, puts }, (outcome) => {
      if (outcome === 'stored') this.#dispatch({ kind: 'write_stored', operation });
      else if (outcome === 'fenced') this.#dispatch({ kind: 'write_fenced', operation });
      else this.#dispatch({ kind: 'write_failed', operation, reason: 'no answer' });
    });
  }

  #reply(request: string, reply: Reply): void {
    const waiting = this.#requests.get(request);
    this.#requests.delete(request);
    waiting?.answer(reply);
  }
}
