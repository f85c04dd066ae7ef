/** A simulated process: it can be frozen, thawed and killed, and has clocks of its own. */
import type { World } from './world.js';

const TICK_MS = 100;

export abstract class SimulatedProcess {
  alive = true;
  frozen = false;
  /** Whoever runs on a host that lost its power sends no reset. */
  vanished = false;
  readonly #inbox: (() => void)[] = [];
  readonly #monotonicOffsetMs: number;
  #tickWaits = false;

  constructor(
    readonly world: World,
    /** Name of the process and of its place in the network; a restarted process has the name of the old one. */
    readonly name: string,
  ) {
    this.#monotonicOffsetMs = world.random.between(0, 1e6);
    this.#planTick(world.random.between(0, TICK_MS));
  }

  protected abstract ticked(): void;

  get nowMs(): number {
    return this.world.agenda.nowMs + this.#monotonicOffsetMs;
  }

  get wallMs(): number {
    return Math.floor(1.7e12 + this.world.agenda.nowMs + (this.world.wallOffsets.get(this.name) ?? 0));
  }

  /** Runs `act` in this process: at once, when it thaws, or never if it is dead. */
  deliver(act: () => void): void {
    if (!this.alive) return;
    if (this.frozen || this.#inbox.length > 0) this.#inbox.push(act);
    else act();
  }

  later(delayMs: number, act: () => void): void {
    this.world.agenda.after(delayMs, () => this.deliver(act));
  }

  freeze(): void {
    if (this.alive) this.frozen = true;
  }

  /** What came in the meantime is handled in order; a timer that fired may be first or last. */
  thaw(): void {
    if (!this.alive || !this.frozen) return;
    this.frozen = false;
    if (this.world.random.chance(0.5)) this.#inbox.unshift(() => this.ticked());
    for (let next = this.#inbox[0]; next !== undefined && this.alive && !this.frozen; next = this.#inbox[0]) {
      next();
      this.#inbox.shift();
    }
  }

  die(): void {
    this.alive = false;
    this.frozen = false;
    this.#inbox.length = 0;
  }

  #planTick(delayMs: number): void {
    this.world.agenda.after(delayMs, () => {
      if (!this.alive) return;
      this.#planTick(TICK_MS);
      if (this.#tickWaits) return;
      this.#tickWaits = true;
      this.deliver(() => {
        this.#tickWaits = false;
        this.ticked();
      });
    });
  }
}
