/** Turns what happens into events for the core, one at a time, and the core's commands into acts. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { LogContext, Logger } from '../../shared/logger.js';
import { Orphans } from '../../shared/orphans.js';
import type { Preflight } from '../../shared/wire/jobs.js';
import type { MeasuredPeer } from '../../shared/wire/session.js';
import type { Checkpoints } from '../checkpoint/checkpoints.js';
import type { DataPlane, DataPlaneCommand } from '../collective/data_plane.js';
import { apply } from '../core/apply.js';
import type { CoreCheckpointCommand, CoreDataPlaneCommand, WorkerCommand } from '../core/command.js';
import { NO_USAGE, type WorkerEvent } from '../core/event.js';
import type { WorkerState } from '../core/state.js';
import type { EngineBounds } from './engine_bounds.js';
import { helperPids } from './engine_launch.js';
import { EngineProcess } from './engine_process.js';
import { codeFailure, type JobCode } from './job_code.js';
import { createModelFolder, describeModel, takeModel } from './model_folder.js';
import type { MeasureRequest } from './preflight.js';
import type { SessionClient } from './session_client.js';
import { UsageMeter } from './usage.js';

const TICK_MS = 50;
/** The main loop is looked at so often, and judged after so many looks. */
const LOOP_LOOK_MS = 10;
const LOOP_LOOKS = 100;
/** After the exit of an engine. What it started may have to die first before its own children are orphans. */
const SWEEPS_MS = [50, 200, 1000];
const LAST_SWEEP_MS = 2000;

export interface DriverOptions {
  readonly state: WorkerState;
  readonly python: string;
  readonly gpu: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly dataPlane: DataPlane;
  readonly checkpoints: Checkpoints;
  readonly code: JobCode;
  /** Measures this machine; undefined when it was stopped. */
  readonly measure: (request: MeasureRequest) => Promise<Preflight | undefined>;
  readonly bounds: EngineBounds;
  /** The worker was told to stop and holds nothing any more. */
  readonly onExit: () => void;
  readonly log: Logger;
}

export class Driver {
  readonly #options: DriverOptions;
  readonly #queue: WorkerEvent[] = [];
  readonly #engines = new Map<number, EngineProcess>();
  /** Engines whose code is not there yet. */
  readonly #preparing = new Map<number, AbortController>();
  /** What users' code starts in a session of its own is not in the engine's process group, and must not outlive the job either. */
  readonly #orphans = new Orphans(() => this.#children());
  readonly #ticker: NodeJS.Timeout;
  readonly #loopDelay = monitorEventLoopDelay({ resolution: LOOP_LOOK_MS });
  #loopDelayMs = 0;
  readonly #meter = new UsageMeter();
  #usage = NO_USAGE;
  #meteredMs = 0;
  /** The measurement that is under way, and the process that stands for an engine in it. */
  #measuring: { readonly stop: AbortController; peers: readonly MeasuredPeer[]; pid: number } | undefined;
  #draining = false;
  #session: SessionClient | undefined;

  constructor(options: DriverOptions) {
    this.#options = options;
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#loopDelay.enable();
  }

  connect(session: SessionClient): void {
    this.#session = session;
  }

  #tick(): void {
    if (this.#loopDelay.count >= LOOP_LOOKS) {
      // The histogram holds the whole time between two looks.
      this.#loopDelayMs = Math.max(0, this.#loopDelay.percentile(99) / 1e6 - LOOP_LOOK_MS);
      this.#loopDelay.reset();
    }
    this.#lookAtUsage();
    this.dispatch({ kind: 'ticked', loopDelayMs: this.#loopDelayMs, usage: this.#usage });
  }

  /** As often as there are heartbeats. */
  #lookAtUsage(): void {
    const nowMs = performance.now();
    const { heartbeatMs, run } = this.#options.state;
    if (nowMs - this.#meteredMs < heartbeatMs) return;
    this.#meteredMs = nowMs;
    this.#usage = this.#meter.look(run && this.#engines.get(run.engineStart), nowMs);
  }

  /** The job that the worker has, for whatever is logged meanwhile. */
  get jobContext(): LogContext {
    const { run } = this.#options.state;
    return run === undefined ? {} : { job: run.job, step: run.committed, generation: run.generation };
  }

  /** It holds a copy of a state that is to be saved. */
  get isSaving(): boolean {
    return this.#options.state.run?.snapshot !== undefined;
  }

  /** The engine of this number runs, or is being started. */
  hasEngine(start: number): boolean {
    return this.#engines.has(start) || this.#preparing.has(start);
  }

  /** Handles an event now, or after the one that is being handled. */
  dispatch(event: WorkerEvent): void {
    this.#queue.push(event);
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        const commands = apply(this.#options.state, { nowMs: performance.now(), wallMs: Date.now(), event: next });
        for (const command of commands) this.#execute(command);
      }
    } finally {
      this.#draining = false;
    }
  }

  /** Ends all engines and what they started. Nothing is dispatched any more. */
  async close(): Promise<void> {
    clearInterval(this.#ticker);
    this.#loopDelay.disable();
    for (const preparing of this.#preparing.values()) preparing.abort();
    this.#stopMeasuring();
    for (const engine of this.#engines.values()) engine.kill();
    this.#engines.clear();
    await this.#orphans.sweepAll(LAST_SWEEP_MS);
    this.#options.code.close();
    await this.#options.bounds.close();
  }

  #execute(command: WorkerCommand): void {
    switch (command.kind) {
      case 'send':
        this.#session?.send(command.message);
        break;
      case 'start_engine':
        void this.#startEngine(command);
        break;
      case 'kill_engine':
        this.#preparing.get(command.start)?.abort();
        this.#engines.get(command.start)?.kill();
        break;
      case 'tell_engine':
        this.#tellEngine(command);
        break;
      case 'reserve_memory':
        this.#engines.get(command.start)?.exchange.grow(command.bytes);
        break;
      case 'tell_data_plane':
        this.#tellDataPlane(command.start, command.command);
        break;
      case 'tell_checkpoints':
        this.#tellCheckpoints(command.start, command.command);
        break;
      case 'measure':
        void this.#measure(command);
        break;
      case 'name_peers':
        if (this.#measuring !== undefined) this.#measuring.peers = command.peers;
        break;
      case 'stop_measuring':
        this.#stopMeasuring();
        break;
      case 'exit':
        this.#options.onExit();
        break;
      case 'describe_model':
        void this.#describe(command);
        break;
      case 'log':
        this.#options.log[command.level](command.message, command.fields);
        break;
    }
  }

  #children(): ReadonlySet<number> {
    const engines = [...this.#engines.values()].map((engine) => engine.pid);
    const measuring = this.#measuring === undefined ? [] : [this.#measuring.pid];
    return new Set([...engines, ...measuring, ...helperPids()]);
  }

  async #measure({ peers }: Extract<WorkerCommand, { kind: 'measure' }>): Promise<void> {
    const measuring = { stop: new AbortController(), peers, pid: 0 };
    this.#measuring = measuring;
    const onStarted = (pid: number): void => {
      measuring.pid = pid;
    };
    const { signal } = measuring.stop;
    const preflight = await this.#options.measure({ peers: () => measuring.peers, signal, onStarted });
    if (this.#measuring === measuring) this.#measuring = undefined;
    if (preflight !== undefined) this.dispatch({ kind: 'measured', preflight });
  }

  #stopMeasuring(): void {
    this.#measuring?.stop.abort();
    this.#measuring = undefined;
  }

  async #startEngine({ start, threads, bundle }: Extract<WorkerCommand, { kind: 'start_engine' }>): Promise<void> {
    const folder = this.#options.code.shared(bundle) ?? (await this.#codeFor(start, bundle));
    if (folder === undefined) return;
    try {
      this.#spawn(start, threads, folder);
    } catch (error) {
      this.#options.code.release(start);
      await this.#options.bounds.leave(start);
      this.dispatch({ kind: 'engine_event', start, event: codeFailure(error) });
    }
  }

  /** Undefined when there will be no engine: the core has been told why. */
  async #codeFor(start: number, bundle: string): Promise<string | undefined> {
    const preparing = new AbortController();
    this.#preparing.set(start, preparing);
    let failure: unknown;
    const folder = await this.#options.code.make(start, bundle, preparing.signal).catch((error: unknown) => {
      failure = error;
      return undefined;
    });
    this.#preparing.delete(start);
    if (folder !== undefined && !preparing.signal.aborted) return folder;
    this.#options.code.release(start);
    if (preparing.signal.aborted) this.dispatch({ kind: 'engine_exited', start, reason: 'it was not started' });
    else this.dispatch({ kind: 'engine_event', start, event: codeFailure(failure) });
    return undefined;
  }

  #spawn(start: number, threads: number, folder: string): void {
    const { bounds } = this.#options;
    const place = bounds.enter(start);
    const engine = new EngineProcess({
      python: this.#options.python,
      gpu: this.#options.gpu,
      environment: this.#options.environment,
      threads,
      folder,
      place,
      onEvent: (event) => this.dispatch({ kind: 'engine_event', start, event }),
      onLines: (lines) => this.dispatch({ kind: 'lines_printed', start, lines }),
      onExit: (reason) => {
        unwatch();
        this.#engines.delete(start);
        this.#options.code.release(start);
        void bounds.leave(start);
        this.#orphans.sweep();
        for (const ms of SWEEPS_MS) setTimeout(() => this.#orphans.sweep(), ms).unref();
        this.dispatch({ kind: 'engine_exited', start, reason });
      },
      unused: () => this.#options.dataPlane.obeyed(),
    });
    this.#engines.set(start, engine);
    const unwatch = bounds.watch(start, (message) => {
      const event = { event: 'failed', phase: 'scratch', kind: 'resource', message, traceback: '' } as const;
      this.dispatch({ kind: 'engine_event', start, event });
    });
  }

  #tellEngine({ start, command }: Extract<WorkerCommand, { kind: 'tell_engine' }>): void {
    if (command.command === 'export_model') {
      try {
        createModelFolder(command.path);
      } catch (error) {
        this.#modelFailed(error);
        return;
      }
      const path = this.#options.bounds.placeOf(start)?.modelFolder ?? command.path;
      this.#engines.get(start)?.tell({ ...command, path });
      return;
    }
    this.#engines.get(start)?.tell(command);
  }

  #tellDataPlane(start: number, command: CoreDataPlaneCommand): void {
    const engine = this.#engines.get(start);
    const { dataPlane } = this.#options;
    switch (command.kind) {
      case 'open_job':
        if (engine !== undefined) dataPlane.tell({ ...command, exchangeFd: engine.exchange.fd });
        break;
      case 'publish_state':
      case 'fetch_state':
        if (engine !== undefined) dataPlane.tell({ ...command, fd: engine.state.fd } satisfies DataPlaneCommand);
        break;
      default:
        dataPlane.tell(command);
    }
  }

  /** The thread gets descriptors of its own: what it reads must not go away with the engine. */
  #tellCheckpoints(start: number, command: CoreCheckpointCommand): void {
    const engine = this.#engines.get(start);
    const { checkpoints } = this.#options;
    switch (command.kind) {
      case 'write_shard':
      case 'publish':
        if (engine !== undefined) checkpoints.tell({ ...command, fd: engine.snapshot.reopen() });
        break;
      case 'restore':
        if (engine !== undefined) checkpoints.tell({ ...command, fd: engine.state.reopen() });
        break;
      default:
        checkpoints.tell(command);
    }
  }

  async #describe({ path, model }: Extract<WorkerCommand, { kind: 'describe_model' }>): Promise<void> {
    const { state, bounds } = this.#options;
    const from = bounds.placeOf(state.run?.engineStart ?? 0)?.modelFolder;
    try {
      if (from !== undefined) await takeModel(from, path, model.file.sha256);
      await describeModel(path, model);
      this.dispatch({ kind: 'model_described', job: model.job, path });
    } catch (error) {
      this.#modelFailed(error);
    }
  }

  #modelFailed(error: unknown): void {
    const job = this.#options.state.run?.job;
    const reason = `the model folder cannot be written: ${error instanceof Error ? error.message : String(error)}`;
    if (job !== undefined) this.dispatch({ kind: 'model_failed', job, reason });
  }
}
