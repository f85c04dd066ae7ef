/** A worker daemon: the real core, driven as worker/io/driver.ts and session_client.ts drive it, over simulated everything else. */
import type { CoordinatorMessage, MeasuredPeer, WorkerMessage } from '../../shared/wire/session.js';
import type { CheckpointEvent } from '../../worker/checkpoint/checkpoints.js';
import type { DataPlaneEvent } from '../../worker/collective/data_plane.js';
import { apply } from '../../worker/core/apply.js';
import type { CoreCheckpointCommand, WorkerCommand } from '../../worker/core/command.js';
import type { EngineEvent } from '../../worker/core/engine_protocol.js';
import { NO_USAGE, type WorkerEvent } from '../../worker/core/event.js';
import { initialState, type WorkerState } from '../../worker/core/state.js';
import { CheckpointThread } from './checkpoint/checkpoint_thread.js';
import { SimulatedDataPlane } from './collective/data_plane.js';
import type { CoordinatorHost } from './coordinator_host.js';
import { SimulatedEngine } from './engine.js';
import type { LeaderKey } from './etcd.js';
import type { Memory } from './memory.js';
import { preflightOf } from './preflights.js';
import { SimulatedProcess } from './process.js';
import type { Session } from './session.js';
import { textOf } from './text_of.js';
import { Violation, type World } from './world.js';

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 1_000;
const GREETING_MS = 3_000;
/** Time for the others to go on without a worker that was told to stop, and for its state to be saved where only it has one. */
const DRAIN_MS = 5_000;
const SAVE_MS = 60_000;
const LOOK_MS = 100;

interface Connection {
  /** Present once the coordinator has accepted it. */
  session: Session | undefined;
  readonly waiting: WorkerMessage[];
  greeted: boolean;
}

export class WorkerHost extends SimulatedProcess {
  readonly incarnation: string;
  readonly state: WorkerState;
  readonly dataPlane: SimulatedDataPlane;
  readonly checkpoints: CheckpointThread;
  readonly engines = new Map<number, SimulatedEngine>();
  /** Factor on everything that its engines do in a step. */
  slowness = 1;
  readonly #queue: WorkerEvent[] = [];
  #draining = false;
  #leader: LeaderKey | undefined;
  #connection: Connection | undefined;
  #attempts = 0;
  /** Measurements that were begun or stopped: what an older one finds is nobody's. */
  #measurements = 0;
  #peers: readonly MeasuredPeer[] = [];
  #retryMs = FIRST_RETRY_MS;

  constructor(world: World, name: string, restarts: number) {
    super(world, name);
    this.incarnation = `${name}#${restarts}`;
    const identity = {
      worker: name,
      incarnation: this.incarnation,
      host: name,
      pid: restarts,
      peerAddress: `${name}:1`,
      machine: { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 },
      measures: world.scenario.preflights !== undefined,
    };
    this.state = initialState(identity);
    this.dataPlane = new SimulatedDataPlane(this);
    this.checkpoints = new CheckpointThread(this);
    world.etcd.watchLeader(this, (leader) => this.#follow(leader));
  }

  /** Name in the spec of a job that was loaded here. */
  nameOfJob(job: string): string {
    return this.world.oracle.jobOf(job)?.spec.name ?? '';
  }

  broken(invariant: string, detail: string): never {
    throw new Violation(invariant, `${this.name}: ${detail}`);
  }

  override die(): void {
    super.die();
    for (const engine of this.engines.values()) engine.alive = false;
    if (this.vanished) return;
    this.#connection?.session?.closeByWorker();
    this.dataPlane.reset();
  }

  /** SIGTERM: it hands over what it has, and exits by itself. */
  stop(): void {
    this.deliver(() => this.#dispatch({ kind: 'stop_requested' }));
    this.later(DRAIN_MS, () => this.#stopWhenSaved(DRAIN_MS));
  }

  #stopWhenSaved(waitedMs: number): void {
    if (waitedMs >= SAVE_MS || this.state.run?.snapshot === undefined) this.die();
    else this.later(LOOK_MS, () => this.#stopWhenSaved(waitedMs + LOOK_MS));
  }

  cutSession(): void {
    this.#connection?.session?.cut();
  }

  engineSaid(start: number, event: EngineEvent): void {
    this.deliver(() => {
      if (this.engines.has(start)) this.#dispatch({ kind: 'engine_event', start, event });
    });
  }

  enginePrinted(start: number, text: string): void {
    this.deliver(() => {
      if (!this.engines.has(start)) return;
      this.#dispatch({ kind: 'lines_printed', start, lines: [{ timeMs: this.wallMs, stream: 'stdout', text }] });
    });
  }

  engineGone(engine: SimulatedEngine, delayMs: number, reason: string): void {
    this.later(delayMs, () => {
      this.engines.delete(engine.start);
      this.#dispatch({ kind: 'engine_exited', start: engine.start, reason });
    });
  }

  dataPlaneSaid(event: Exclude<DataPlaneEvent, { kind: 'listening' }>): void {
    this.#dispatch({ kind: 'data_plane_event', event });
  }

  checkpointThreadSaid(event: CheckpointEvent): void {
    this.#dispatch({ kind: 'checkpoint_event', event });
  }

  protected ticked(): void {
    this.#dispatch({ kind: 'ticked', loopDelayMs: 0, usage: NO_USAGE });
  }

  #dispatch(event: WorkerEvent): void {
    this.#queue.push(event);
    if (this.#draining) return;
    this.#draining = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) this.#handle(next);
    this.#draining = false;
  }

  #handle(event: WorkerEvent): void {
    const { oracle } = this.world;
    const before = oracle.beforeWorker(this, event);
    const commands = apply(this.state, { nowMs: this.nowMs, wallMs: this.wallMs, event });
    if (event.kind !== 'ticked' || commands.length > 0) this.#record(event, commands);
    oracle.afterWorker(this, event, commands, before);
    for (const command of commands) this.#execute(command);
  }

  #record(event: WorkerEvent, commands: readonly WorkerCommand[]): void {
    const { world } = this;
    world.note(this.name, event.kind, commands.length);
    if (world.print === undefined) return;
    world.say(this.name, `< ${textOf(event)}`);
    for (const command of commands) world.say(this.name, `    > ${textOf(command)}`);
  }

  #execute(command: WorkerCommand): void {
    switch (command.kind) {
      case 'send':
        this.#send(command.message);
        break;
      case 'start_engine': {
        const plan = this.world.oracle.jobOf(command.job);
        if (plan === undefined) this.broken('I9', `job ${command.job} was never submitted`);
        else this.engines.set(command.start, new SimulatedEngine(this, command.start, plan));
        this.world.onMoment('loading', this.name);
        break;
      }
      case 'kill_engine':
        this.engines.get(command.start)?.kill('signal SIGKILL');
        break;
      case 'tell_engine':
        this.engines.get(command.start)?.tell(command.command);
        break;
      case 'reserve_memory': {
        const memory = this.#memoryOf(command.start);
        if (memory !== undefined) memory.reserved = Math.max(memory.reserved, command.bytes);
        break;
      }
      case 'tell_data_plane':
        this.dataPlane.tell(command.command, this.#memoryOf(command.start));
        break;
      case 'tell_checkpoints':
        this.#tellCheckpoints(command.start, command.command);
        break;
      case 'describe_model':
        this.world.oracle.described(this, command.model);
        this.world.onMoment('model_described', this.name);
        this.later(this.world.random.between(1, 30), () =>
          this.#dispatch({ kind: 'model_described', job: command.model.job, path: command.path }),
        );
        break;
      case 'measure':
        this.#peers = command.peers;
        this.#measure();
        break;
      case 'name_peers':
        this.#peers = command.peers;
        break;
      case 'stop_measuring':
        this.#measurements += 1;
        break;
      case 'exit':
        this.later(0, () => this.die());
        break;
      case 'log':
        break;
    }
  }

  #measure(): void {
    const { scenario, agenda, random } = this.world;
    const failing = agenda.nowMs < scenario.faultsUntilMs ? scenario.preflights?.failings.get(this.name) : undefined;
    const tookMs = failing === 'late' ? random.between(3_500, 8_000) : random.between(20, 3_000);
    this.#measurements += 1;
    const measurement = this.#measurements;
    this.later(tookMs, () => {
      if (measurement !== this.#measurements) return;
      this.#dispatch({ kind: 'measured', preflight: preflightOf(failing, this.wallMs, tookMs, this.#peers) });
    });
  }

  /** What needs the memory of an engine that is gone is not told. */
  #tellCheckpoints(start: number, command: CoreCheckpointCommand): void {
    this.checkpoints.tell(command, this.#memoryOf(start));
  }

  #memoryOf(start: number): Memory | undefined {
    return this.engines.get(start)?.memory;
  }

  #send(message: WorkerMessage): void {
    this.world.oracle.workerSends(this, message);
    const connection = this.#connection;
    if (connection?.session === undefined) connection?.waiting.push(message);
    else connection.session.sendUp(message);
  }

  #follow(leader: LeaderKey | undefined): void {
    if (leader?.createRevision === this.#leader?.createRevision) return;
    this.#leader = leader;
    this.#drop();
    this.#retryMs = FIRST_RETRY_MS;
    this.#open();
  }

  #open(): void {
    const leader = this.#leader;
    this.#attempts += 1;
    if (leader === undefined) return;
    const { world } = this;
    const connection: Connection = { session: undefined, waiting: [], greeted: false };
    this.#connection = connection;
    this.later(GREETING_MS, () => {
      if (!connection.greeted) this.#ended(connection);
    });
    this.#dispatch({ kind: 'session_opened' });
    world.onMoment('session_opened', this.name);
    world.agenda.after(world.network.delayMs(this.name, leader.name), () => this.#connect(connection, leader.name));
  }

  #connect(connection: Connection, name: string): void {
    if (!this.alive || connection !== this.#connection) return;
    const coordinator = this.world.coordinators.get(name);
    if (!this.world.network.connected(this.name, name) || coordinator === undefined || coordinator.vanished) return;
    if (coordinator.alive) coordinator.deliver(() => this.#accepted(connection, coordinator));
    else this.later(1, () => this.#ended(connection));
  }

  /** Runs in the coordinator. A connection that was given up meanwhile is accepted, read and found closed. */
  #accepted(connection: Connection, coordinator: CoordinatorHost): void {
    const session = coordinator.accept({
      process: this,
      onMessage: (message) => this.#received(connection, message),
      onClosed: () => this.#ended(connection),
    });
    if (session === undefined) {
      this.later(1, () => this.#ended(connection));
      return;
    }
    connection.session = session;
    for (const message of connection.waiting.splice(0)) session.sendUp(message);
    if (connection !== this.#connection || !this.alive) session.closeByWorker();
  }

  #received(connection: Connection, message: CoordinatorMessage): void {
    if (connection !== this.#connection) return;
    connection.greeted = true;
    this.#retryMs = FIRST_RETRY_MS;
    this.#dispatch({ kind: 'coordinator_message', message });
  }

  #ended(connection: Connection): void {
    if (connection !== this.#connection) return;
    this.#drop();
    const attempts = this.#attempts;
    this.later(this.#retryMs * this.world.random.between(0.5, 1), () => {
      if (attempts === this.#attempts) this.#open();
    });
    this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
  }

  #drop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection === undefined) return;
    connection.session?.closeByWorker();
    this.#dispatch({ kind: 'session_closed' });
  }
}
