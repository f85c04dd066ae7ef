/** Turns what happens into events for the core, one at a time, and the core's commands into acts. */
import type { Logger } from '../../shared/logger.js';
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import { apply } from '../core/apply.js';
import type { CoordinatorCommand, ReplyErrorCode } from '../core/command.js';
import type { At, CoordinatorEvent } from '../core/event.js';
import type { CoordinatorState } from '../core/state.js';
import { fromStore, keysOfJob, toStore } from './records.js';
import type { Store } from './store.js';

const TICK_MS = 50;

/** What the driver needs of the session service. */
export interface Sessions {
  send(session: string, message: CoordinatorMessage): void;
  close(session: string, reason: string): void;
}

/** What the driver needs of the jobs service. */
export interface Requests {
  reply(request: string, job: string): void;
  replyNode(request: string, worker: string): void;
  replyError(request: string, code: ReplyErrorCode, message: string): void;
  publish(job: string): void;
}

export interface DriverOptions {
  readonly state: CoordinatorState;
  readonly store: Store;
  /** The current term by the election's own clock; undefined when this coordinator does not lead. */
  readonly term: () => number | undefined;
  readonly stepDown: (reason: string) => void;
  readonly log: Logger;
}

export class Driver {
  readonly #options: DriverOptions;
  readonly #queue: CoordinatorEvent[] = [];
  #draining = false;
  #sessions: Sessions | undefined;
  #requests: Requests | undefined;
  readonly #ticker: NodeJS.Timeout;

  constructor(options: DriverOptions) {
    this.#options = options;
    this.#ticker = setInterval(() => this.dispatch({ kind: 'ticked' }), TICK_MS);
  }

  get state(): CoordinatorState {
    return this.#options.state;
  }

  /** Workers that were told to stop have not been let go: the state of a job is being saved. */
  get workersLeave(): boolean {
    return [...this.state.workers.values()].some((worker) => worker.leaving && worker.job !== undefined);
  }

  connect(sessions: Sessions, requests: Requests): void {
    this.#sessions = sessions;
    this.#requests = requests;
  }

  close(): void {
    clearInterval(this.#ticker);
  }

  /** Handles events now, or after the one that is being handled; what came together at one time. */
  dispatch(...events: readonly CoordinatorEvent[]): void {
    this.#queue.push(...events);
    if (this.#draining) return;
    this.#draining = true;
    try {
      this.#drain();
    } finally {
      this.#draining = false;
    }
  }

  #drain(): void {
    const [nowMs, wallMs] = [performance.now(), Date.now()];
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      this.#handle({ nowMs, wallMs, event: next });
    }
  }

  /** This coordinator was elected: reads what etcd holds, then leads. */
  async lead(term: number): Promise<void> {
    try {
      const { entries } = await this.#options.store.loadAll();
      const records = fromStore(entries);
      if (this.#options.term() === term) this.dispatch({ kind: 'elected', term, ...records });
    } catch (error) {
      this.#options.log.error('cannot lead', { term, error: String(error) });
      this.#options.stepDown(String(error));
    }
  }

  #handle(at: At<CoordinatorEvent>): void {
    // A process that was frozen past its lease learns of it here, before it acts on anything.
    const leading = this.state.leading;
    if (leading !== undefined && at.event.kind !== 'deposed' && this.#options.term() !== leading.term) {
      this.#act(apply(this.state, { ...at, event: { kind: 'deposed' } }));
    }
    this.#act(apply(this.state, at));
  }

  #act(commands: readonly CoordinatorCommand[]): void {
    for (const command of commands) this.#execute(command);
  }

  #execute(command: CoordinatorCommand): void {
    switch (command.kind) {
      case 'send':
        this.#sessions?.send(command.session, command.message);
        break;
      case 'close_session':
        this.#sessions?.close(command.session, command.reason);
        break;
      case 'write':
        void this.#write(command);
        break;
      case 'reply':
        this.#requests?.reply(command.request, command.job);
        break;
      case 'reply_node':
        this.#requests?.replyNode(command.request, command.worker);
        break;
      case 'reply_error':
        this.#requests?.replyError(command.request, command.code, command.message);
        break;
      case 'publish':
        this.#requests?.publish(command.job);
        break;
      case 'step_down':
        this.#options.stepDown('a worker or etcd knows a newer leader');
        break;
      case 'log':
        this.#options.log[command.level](command.message, command.fields);
        break;
    }
  }

  async #write({ term, operation, puts, forgets }: Extract<CoordinatorCommand, { kind: 'write' }>): Promise<void> {
    try {
      const write = { term, operation, puts: puts.map(toStore), deletes: forgets.flatMap(keysOfJob) };
      const outcome = await this.#options.store.write(write);
      this.dispatch({ kind: outcome === 'stored' ? 'write_stored' : 'write_fenced', operation });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.dispatch({ kind: 'write_failed', operation, reason });
    }
  }
}
