/** A session between a worker and a coordinator: two pipes, either of which can be cut, and keepalives at both ends. */
import type { CoordinatorMessage, WorkerMessage } from '../../shared/wire/session.js';
import { Pipe } from './network.js';
import type { SimulatedProcess } from './process.js';

const KEEPALIVE_MS = 900;
const SILENCE_MS = 3_000;

type Item<M> = { readonly kind: 'message'; readonly message: M } | { readonly kind: 'end'; readonly reason: string };

/** One end: what it hears. */
export interface SessionEnd<M> {
  readonly process: SimulatedProcess;
  readonly onMessage: (message: M) => void;
  /** Called once, unless this end has closed the session itself. */
  readonly onClosed: (reason: string) => void;
}

export class Session {
  readonly #up: Pipe<Item<WorkerMessage>>;
  readonly #down: Pipe<Item<CoordinatorMessage>>;
  #workerOpen = true;
  #coordinatorOpen = true;
  #workerSilentMs = 0;
  #coordinatorSilentMs = 0;

  constructor(
    readonly worker: SessionEnd<CoordinatorMessage>,
    readonly coordinator: SessionEnd<WorkerMessage>,
  ) {
    const { world } = worker.process;
    this.#up = new Pipe(world, worker.process.name, coordinator.process, (item) => {
      if (!this.#coordinatorOpen) return;
      if (item.kind === 'message') coordinator.onMessage(item.message);
      else this.#endCoordinator(item.reason);
    });
    this.#down = new Pipe(world, coordinator.process.name, worker.process, (item) => {
      if (!this.#workerOpen) return;
      if (item.kind === 'message') worker.onMessage(item.message);
      else this.#endWorker(item.reason);
    });
    this.#planKeepalive();
  }

  sendUp(message: WorkerMessage): void {
    if (this.#workerOpen) this.#up.push({ kind: 'message', message });
  }

  sendDown(message: CoordinatorMessage): void {
    if (this.#coordinatorOpen) this.#down.push({ kind: 'message', message });
  }

  /** Messages that the other side has not taken yet. */
  get waiting(): number {
    return Math.max(this.#up.waiting, this.#down.waiting);
  }

  closeByWorker(): void {
    this.#workerOpen = false;
    this.#down.close();
    if (this.worker.process.world.random.chance(0.5)) this.#up.discard();
    this.#up.push({ kind: 'end', reason: 'the worker closed its session' });
  }

  closeByCoordinator(reason: string): void {
    this.#coordinatorOpen = false;
    this.#up.close();
    if (this.worker.process.world.random.chance(0.3)) this.#down.discard();
    this.#down.push({ kind: 'end', reason });
  }

  /** Both ends see a reset; what is under way may be lost. */
  cut(): void {
    const { random } = this.worker.process.world;
    if (random.chance(0.7)) this.#up.discard();
    if (random.chance(0.7)) this.#down.discard();
    this.#up.push({ kind: 'end', reason: 'reset' });
    this.#down.push({ kind: 'end', reason: 'reset' });
  }

  #endWorker(reason: string): void {
    if (!this.#workerOpen) return;
    this.#workerOpen = false;
    this.#down.close();
    this.worker.onClosed(reason);
  }

  #endCoordinator(reason: string): void {
    if (!this.#coordinatorOpen) return;
    this.#coordinatorOpen = false;
    this.#up.close();
    this.coordinator.onClosed(reason);
  }

  /** The other side learns of it when it can be reached again. */
  #workerGivesUp(): void {
    this.#up.push({ kind: 'end', reason: 'reset' });
    this.#endWorker('keepalive');
  }

  #coordinatorGivesUp(): void {
    this.#down.push({ kind: 'end', reason: 'reset' });
    this.#endCoordinator('keepalive');
  }

  #planKeepalive(): void {
    const { process: worker } = this.worker;
    const { process: coordinator } = this.coordinator;
    worker.world.agenda.after(KEEPALIVE_MS, () => {
      const mine = this.#workerOpen && worker.alive;
      const theirs = this.#coordinatorOpen && coordinator.alive;
      if (!mine && !theirs) return;
      const link = worker.world.network.connected(worker.name, coordinator.name);
      this.#workerSilentMs = link && coordinator.alive && !coordinator.frozen ? 0 : this.#workerSilentMs + KEEPALIVE_MS;
      this.#coordinatorSilentMs = link && worker.alive && !worker.frozen ? 0 : this.#coordinatorSilentMs + KEEPALIVE_MS;
      if (mine && this.#workerSilentMs > SILENCE_MS) worker.deliver(() => this.#workerGivesUp());
      if (theirs && this.#coordinatorSilentMs > SILENCE_MS) coordinator.deliver(() => this.#coordinatorGivesUp());
      this.#planKeepalive();
    });
  }
}
