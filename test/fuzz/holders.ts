/** Processes that hold connections to the ports of a cluster, each from an address of its own. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { until } from '../faults/until.js';
import { type Held, type HeldOptions, held } from './held.js';

const HOLDER = fileURLToPath(new URL('./connection_holder.js', import.meta.url));
const OPEN_MS = 180_000;

export interface Target extends Pick<HeldOptions, 'host' | 'port' | 'silentShare' | 'tlsFolder'> {
  readonly name: string;
  /** To be held. */
  readonly count: number;
  /** That its port takes from one address (docs/limits.md). */
  readonly limit: number;
}

export class Holder {
  readonly #child: ChildProcess;
  #last: Held = { isWhole: false, settled: 0, opened: 0, refused: 0, dropped: 0 };
  #most = 0;

  constructor(
    readonly target: Target,
    index: number,
  ) {
    const { name: _, limit: __, ...told } = target;
    const options: HeldOptions = { ...told, localAddress: `127.0.1.${index + 1}` };
    this.#child = fork(HOLDER, [JSON.stringify(options)]);
    this.#child.on('message', (message) => {
      this.#last = held.parse(message);
      this.#most = Math.max(this.#most, this.#last.settled);
    });
  }

  get last(): Held {
    return this.#last;
  }

  /** Resolves when it holds all that the port takes, or as good as. */
  async untilHeld(): Promise<void> {
    const { name, count, limit } = this.target;
    const enough = 0.9 * Math.min(count, limit);
    const look = (): boolean => {
      if (this.#child.exitCode !== null) throw new Error(`the holder of ${name} ended with ${this.#child.exitCode}`);
      return this.#last.isWhole && this.#most >= enough;
    };
    const what = `${Math.ceil(enough)} connections to ${name}`;
    await until(look, { limitMs: OPEN_MS, what, everyMs: 100 }).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(this.#last)}, ${this.#most} at most`);
    });
  }

  /** Throws if the port took more than it may, or refused none of what was too much. */
  checkLimit(): void {
    const { name, count, limit } = this.target;
    if (this.#most > limit) throw new Error(`${name} held ${this.#most} connections from one address, not ${limit}`);
    const excess = count - limit;
    if (excess > 0 && this.#last.refused < excess) {
      throw new Error(`${name} refused ${this.#last.refused} connections of ${excess} too many`);
    }
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}
