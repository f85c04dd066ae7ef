/**
 * The simulated checkpoint thread of one worker daemon, after worker/checkpoint/checkpoint_work.ts. Each command is an act of its own that
 * nothing else waits for; what it reads of an engine's memory it goes on reading when the engine is gone.
 */
import type { CheckpointEvent } from '../../../worker/checkpoint/checkpoints.js';
import type { CoreCheckpointCommand } from '../../../worker/core/command.js';
import type { Memory } from '../memory.js';
import type { WorkerHost } from '../worker_host.js';
import { Restores } from './restores.js';
import { Saves } from './saves.js';

export class CheckpointThread {
  readonly saves: Saves;
  readonly #restores: Restores;
  #commandsUntilMs = 0;
  #eventsUntilMs = 0;

  constructor(private readonly host: WorkerHost) {
    const emit = (event: CheckpointEvent) => this.#emit(event);
    this.saves = new Saves(host, emit);
    this.#restores = new Restores(host, emit);
  }

  /** `memory` is that of the engine that the command belongs to; what needs it is not told without. */
  tell(command: CoreCheckpointCommand, memory: Memory | undefined): void {
    const { agenda, random } = this.host.world;
    const delayMs = random.chance(0.1) ? random.between(0, 10) : random.between(0.01, 0.2);
    this.#commandsUntilMs = Math.max(this.#commandsUntilMs, agenda.nowMs + delayMs);
    this.host.later(this.#commandsUntilMs - agenda.nowMs, () => this.#obey(command, memory));
  }

  #emit(event: CheckpointEvent): void {
    const { agenda, random } = this.host.world;
    this.#eventsUntilMs = Math.max(this.#eventsUntilMs, agenda.nowMs + random.between(0.01, 0.3));
    this.host.later(this.#eventsUntilMs - agenda.nowMs, () => this.host.checkpointThreadSaid(event));
  }

  #obey(command: CoreCheckpointCommand, memory: Memory | undefined): void {
    switch (command.kind) {
      case 'write_shard':
        if (memory !== undefined) this.saves.writeShard(command, memory.snapshot);
        break;
      case 'publish':
        if (memory !== undefined) this.saves.publish(command, memory.snapshot);
        break;
      case 'abandon_save':
        this.saves.abandon(command);
        break;
      case 'remove':
        this.#remove(command);
        break;
      case 'restore':
        if (memory !== undefined) this.#restores.begin(command, memory.state);
        break;
      case 'stop_restore':
        this.#restores.stop(command.job);
        break;
    }
  }

  #remove({ job, path }: Extract<CoreCheckpointCommand, { readonly kind: 'remove' }>): void {
    const { storage } = this.host.world;
    this.host.later(storage.takesMs(5), () => {
      if (storage.reachable) storage.takeAway(path, 'removed');
      const error = storage.reachable ? undefined : `cannot remove ${path}: the storage cannot be reached`;
      this.#emit({ kind: 'removed', job, path, error });
    });
  }
}
