/** A worker daemon without an engine and without gradients: the real core and the real session, everything else simulated. */
import type { Leader } from '../../shared/etcd/leader_watch.js';
import type { Logger } from '../../shared/logger.js';
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import { apply } from '../../worker/core/apply.js';
import type { WorkerCommand } from '../../worker/core/command.js';
import { NO_USAGE, type WorkerEvent } from '../../worker/core/event.js';
import { type Identity, initialState, type WorkerState } from '../../worker/core/state.js';
import { SessionClient } from '../../worker/io/session_client.js';
import { consumedIn, DATASET_LENGTH, SimulatedEngine } from './simulated_engine.js';
import type { Exchange, ExchangeMember } from './simulated_exchange.js';

/** As in the daemon. */
const TICK_MS = 50;

export interface SimulatedWorkerOptions {
  readonly identity: Identity;
  readonly leader: Leader;
  readonly exchange: Exchange;
  /** Its engine takes no time for a step. */
  readonly prompt?: boolean;
  readonly onReceived: (message: CoordinatorMessage) => void;
  readonly onSent: (kind: string, job: string) => void;
  readonly log: Logger;
}

export class SimulatedWorker implements ExchangeMember {
  readonly #options: SimulatedWorkerOptions;
  readonly #state: WorkerState;
  readonly #session: SessionClient;
  readonly #queue: WorkerEvent[] = [];
  readonly #ticker: NodeJS.Timeout;
  #engine: SimulatedEngine | undefined;
  #draining = false;
  #gone = false;

  constructor(options: SimulatedWorkerOptions) {
    this.#options = options;
    this.#state = initialState(options.identity);
    this.#session = new SessionClient(
      {
        onOpened: () => this.#dispatch({ kind: 'session_opened' }),
        onMessage: (message) => {
          options.onReceived(message);
          this.#dispatch({ kind: 'coordinator_message', message });
        },
        onClosed: () => this.#dispatch({ kind: 'session_closed' }),
      },
      options.log,
    );
    this.#ticker = setInterval(() => this.#dispatch({ kind: 'ticked', loopDelayMs: 0, usage: NO_USAGE }), TICK_MS);
    this.#session.follow(options.leader);
  }

  get job(): string {
    return this.#state.run?.job ?? '';
  }

  /** It does nothing and says nothing any more. */
  vanish(): void {
    this.#gone = true;
    clearInterval(this.#ticker);
    this.#engine?.vanish();
    this.#options.exchange.forget(this);
  }

  /** After its connection has been reset: what is left in this process of it. */
  close(): void {
    this.#session.close();
  }

  dispatch(event: Extract<WorkerEvent, { kind: 'data_plane_event' }>['event']): void {
    this.#dispatch({ kind: 'data_plane_event', event });
  }

  factsOf(step: number) {
    const { run } = this.#state;
    if (run === undefined) throw new Error('a step is reduced by a worker without a job');
    const consumed = consumedIn(run.job, { ...run.spec, datasetLength: DATASET_LENGTH }, step);
    return { loss: consumed.length, weight: consumed.length, consumed };
  }

  #dispatch(event: WorkerEvent): void {
    if (this.#gone) return;
    this.#queue.push(event);
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        const commands = apply(this.#state, { nowMs: performance.now(), wallMs: Date.now(), event: next });
        for (const command of commands) this.#execute(command);
      }
    } finally {
      this.#draining = false;
    }
  }

  #execute(command: WorkerCommand): void {
    switch (command.kind) {
      case 'send':
        this.#session.send(command.message);
        this.#options.onSent(command.message.kind, this.job);
        break;
      case 'start_engine':
        this.#startEngine(command.start);
        break;
      case 'kill_engine':
        this.#engine?.kill();
        break;
      case 'tell_engine':
        this.#engine?.tell(command.command);
        break;
      case 'tell_data_plane':
        this.#options.exchange.tell(this, command.command);
        break;
      case 'log':
        this.#options.log[command.level](command.message, command.fields);
        break;
      default:
        break;
    }
  }

  #startEngine(start: number): void {
    const { run } = this.#state;
    if (run === undefined) throw new Error('an engine is started without a job');
    this.#engine = new SimulatedEngine({
      job: run.job,
      shape: { ...run.spec, datasetLength: DATASET_LENGTH },
      prompt: this.#options.prompt === true,
      onEvent: (event) => this.#dispatch({ kind: 'engine_event', start, event }),
      onExit: () => this.#dispatch({ kind: 'engine_exited', start, reason: 'it was killed' }),
    });
  }
}
