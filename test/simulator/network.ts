/** The simulated network: delays, partitions in one or both directions, and connections that deliver in order or break. */
import type { SimulatedProcess } from './process.js';
import type { World } from './world.js';

const RESEND_MS = 70;

export class Network {
  /** Directed pairs 'from>to' that nothing passes. */
  readonly #blocked = new Map<string, number>();
  /** Extra milliseconds on everything that a place sends or receives. */
  readonly #slow = new Map<string, number>();

  constructor(private readonly world: World) {}

  reachable(from: string, to: string): boolean {
    return this.#blocked.size === 0 || !this.#blocked.has(`${from}>${to}`);
  }

  /** Both ways. */
  connected(left: string, right: string): boolean {
    return this.reachable(left, right) && this.reachable(right, left);
  }

  delayMs(from: string, to: string): number {
    const { random } = this.world;
    const usual = random.chance(0.02) ? random.between(2, 30) : random.between(0.1, 1.5);
    return usual + random.unit() * ((this.#slow.get(from) ?? 0) + (this.#slow.get(to) ?? 0));
  }

  block(from: string, to: string): void {
    const key = `${from}>${to}`;
    this.#blocked.set(key, (this.#blocked.get(key) ?? 0) + 1);
  }

  unblock(from: string, to: string): void {
    const key = `${from}>${to}`;
    const count = (this.#blocked.get(key) ?? 0) - 1;
    if (count > 0) this.#blocked.set(key, count);
    else this.#blocked.delete(key);
  }

  slowDown(place: string, extraMs: number): void {
    this.#slow.set(place, extraMs);
  }

  heal(): void {
    this.#blocked.clear();
    this.#slow.clear();
  }
}

/** One direction of a connection. What is sent arrives in order; while the way is blocked it waits, as TCP does. */
export class Pipe<T> {
  readonly #queue: { readonly atMs: number; readonly item: T }[] = [];
  #lastMs = 0;
  #planned = false;
  #closed = false;

  constructor(
    private readonly world: World,
    private readonly from: string,
    private readonly to: SimulatedProcess,
    private readonly arrived: (item: T) => void,
  ) {}

  push(item: T): void {
    if (this.#closed) return;
    const { agenda, network } = this.world;
    this.#lastMs = Math.max(this.#lastMs, agenda.nowMs + network.delayMs(this.from, this.to.name));
    this.#queue.push({ atMs: this.#lastMs, item });
    this.#plan();
  }

  /** What is under way is lost. */
  discard(): void {
    this.#queue.length = 0;
  }

  close(): void {
    this.#closed = true;
    this.#queue.length = 0;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  #plan(): void {
    const head = this.#queue[0];
    if (this.#planned || head === undefined) return;
    this.#planned = true;
    const { agenda, network } = this.world;
    const resendMs = network.reachable(this.from, this.to.name) ? 0 : RESEND_MS;
    agenda.after(Math.max(head.atMs - agenda.nowMs, resendMs), () => {
      this.#planned = false;
      if (network.reachable(this.from, this.to.name)) this.#arrive();
      this.#plan();
    });
  }

  #arrive(): void {
    const { agenda } = this.world;
    for (let head = this.#queue[0]; head !== undefined && head.atMs <= agenda.nowMs; head = this.#queue[0]) {
      this.#queue.shift();
      const { item } = head;
      this.to.deliver(() => {
        if (!this.#closed) this.arrived(item);
      });
    }
  }
}
