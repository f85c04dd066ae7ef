/** The acts that are under way, by what can stop them: a save's id, or a job that restores. */

interface RunningAct {
  readonly controller: AbortController;
  readonly ended: Promise<void>;
}

export class Acts {
  readonly #running = new Map<string, Set<RunningAct>>();

  /** `act` must not reject. */
  start(key: string, act: (signal: AbortSignal) => Promise<void>): void {
    const controller = new AbortController();
    const acts = this.#running.get(key) ?? new Set();
    this.#running.set(key, acts);
    const running = { controller, ended: act(controller.signal).finally(() => this.#forget(key, running)) };
    acts.add(running);
  }

  /** Asks all acts of the key to stop, and resolves when they have; at once for those that are started later. */
  async stop(key: string): Promise<void> {
    const acts = [...(this.#running.get(key) ?? [])];
    for (const { controller } of acts) controller.abort(new Stopped());
    await Promise.all(acts.map(({ ended }) => ended));
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((key) => this.stop(key)));
  }

  #forget(key: string, act: RunningAct): void {
    const acts = this.#running.get(key);
    acts?.delete(act);
    if (acts?.size === 0) this.#running.delete(key);
  }
}

/** Not a failure: whoever started the act does not want it any more. */
export class Stopped extends Error {
  constructor() {
    super('stopped');
    this.name = 'Stopped';
  }
}
