/** A checkpoint thread, and memory files with images to hand to it. */
import { openSync, writeSync } from 'node:fs';
import type { CheckpointDescription } from '../../../shared/checkpoint/manifest.js';
import type { CheckpointCommand, CheckpointEvent, Checkpoints } from '../../../worker/checkpoint/checkpoints.js';
import {
  type CheckpointThreadOptions,
  startCheckpointThread,
} from '../../../worker/checkpoint/start_checkpoint_thread.js';
import { MemoryFile } from '../../../worker/io/memory_file.js';

export const DESCRIPTION: CheckpointDescription = {
  job: 'job-1',
  name: 'gpt',
  committed: 123,
  epoch: 2,
  stepOfEpoch: 3,
  specJson: '{"version":1,"task":"gpt.py:Gpt","params":{"width":64,"depth":[1,2]}}',
  datasetDigest: 'abc',
  datasetLength: 1000,
  torch: '1.13.0',
  fingerprint: 'f'.repeat(64),
  loss: 0.125,
  samplesLost: 0,
  samplesRepeated: 0,
  createdMs: 1_764_000_000_000,
};

export function memoryOf(bytes: Buffer): MemoryFile {
  const memory = MemoryFile.create('test image');
  memory.grow(bytes.length);
  for (let at = 0; at < bytes.length; at += writeSync(memory.fd, bytes, at, bytes.length - at, at));
  return memory;
}

/** Another descriptor of the same memory: what the thread is given, and closes. */
export function reopened(memory: MemoryFile): number {
  return openSync(`/proc/self/fd/${memory.fd}`, 'r+');
}

type EventOf<Kind extends CheckpointEvent['kind']> = Extract<CheckpointEvent, { readonly kind: Kind }>;

export class TestThread {
  readonly events: CheckpointEvent[] = [];
  readonly #checkpoints: Checkpoints;
  #wake: () => void = () => undefined;

  constructor(options: Pick<CheckpointThreadOptions, 's3' | 'onFailed'> = {}) {
    this.#checkpoints = startCheckpointThread({
      ...options,
      onEvent: (event) => {
        this.events.push(event);
        this.#wake();
      },
      log: () => undefined,
    });
  }

  tell(command: CheckpointCommand): void {
    this.#checkpoints.tell(command);
  }

  close(): Promise<void> {
    return this.#checkpoints.close();
  }

  async nextFailure(): Promise<CheckpointEvent> {
    const isFailure = ({ kind }: CheckpointEvent): boolean => kind === 'save_failed' || kind === 'restore_failed';
    const endMs = performance.now() + 20_000;
    while (performance.now() < endMs) {
      const index = this.events.findIndex(isFailure);
      const [event] = index < 0 ? [] : this.events.splice(index, 1);
      if (event !== undefined) return event;
      await this.#event();
    }
    throw new Error('nothing failed');
  }

  /** Takes the next event of the kind out of those that came. Any failure that comes instead is thrown. */
  async next<Kind extends CheckpointEvent['kind']>(kind: Kind, timeoutMs = 20_000): Promise<EventOf<Kind>> {
    const endMs = performance.now() + timeoutMs;
    while (performance.now() < endMs) {
      for (const [index, event] of this.events.entries()) {
        if (!isKind(event, kind)) continue;
        this.events.splice(index, 1);
        return event;
      }
      const failed = this.events.find((event) => event.kind === 'save_failed' || event.kind === 'restore_failed');
      if (failed !== undefined) throw new Error(JSON.stringify(failed));
      await this.#event();
    }
    throw new Error(`no ${kind} within ${timeoutMs} ms`);
  }
  #event(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, 50);
    });
  }
}

function isKind<Kind extends CheckpointEvent['kind']>(event: CheckpointEvent, kind: Kind): event is EventOf<Kind> {
  return event.kind === kind;
}
