/** A process beside the cluster, at the lowest priority: what is measured is the coordinator, not who makes work for it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { repository } from '../../test/faults/repository.js';
import { cpuMsOf } from '../control/process_usage.js';

const LOWEST_PRIORITY = '19';

export class Beside<Order extends object> {
  readonly #child: ChildProcess;
  readonly #name: string;

  /** `name`: of the file in this folder that it runs. */
  constructor(name: string) {
    this.#name = name;
    const script = join(repository, 'dist/bench/dashboard', `${name}.js`);
    // nice(1) becomes the process, and all of its threads have the priority.
    this.#child = spawn('nice', ['-n', LOWEST_PRIORITY, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
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
