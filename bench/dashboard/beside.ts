/** A process beside the cluster, at the lowest priority: what is measured is the coordinator, not who makes work for it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from '../../test/faults/repository.js';
import { cpuMsOf } from '../control/process_usage.js';

const LOWEST_PRIORITY = '19';
/** What it makes lives for a second at most: it is not to take part in the collection of what lives long. */
const NODE_OPTIONS = ['--max-semi-space-size=64'];

export class Beside<Order extends object> {
  readonly #child: ChildProcess;
  readonly #name: string;

  /** `name`: of the file in this folder that it runs. */
  constructor(name: string) {
    this.#name = name;
    const script = join(repository, 'dist/bench/dashboard', `${name}.js`);
    // Both become the process: all of its threads have the priority, and it dies with the benchmark even while it is frozen.
    const command = ['--pdeathsig', 'KILL', 'nice', '-n', LOWEST_PRIORITY, process.execPath, ...NODE_OPTIONS, script];
    this.#child = spawn('setpriv', command, { detached: true, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#lowerSession();
  }

  /** Where Linux shares processors out to sessions first (sched_autogroup), only the session's own priority counts. */
  #lowerSession(): void {
    const path = `/proc/${this.#child.pid}/autogroup`;
    if (existsSync(path)) writeFileSync(path, LOWEST_PRIORITY);
  }

  get cpuMs(): number {
    return cpuMsOf(this.#child.pid ?? 0);
  }

  tell(order: Order): void {
    this.#child.send(order);
  }

  /** What it says next. */
  async hear(withinMs: number): Promise<unknown> {
    const limit = AbortSignal.timeout(withinMs);
    try {
      const [message] = await once(this.#child, 'message', { signal: limit });
      return message;
    } catch (error) {
      if (limit.aborted) throw new Error(`the process ${this.#name} said nothing for ${withinMs} ms`);
      throw error;
    }
  }

  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}
