/** The main thread's side of the checkpoint thread: starts it and passes messages. */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { StorageOptions } from '../../shared/checkpoint/open_storage.js';
import type { CheckpointCommand, CheckpointEvent, Checkpoints } from './checkpoints.js';
import type { FromThread, ThreadOptions, ToThread } from './thread_messages.js';

const CLOSE_TIMEOUT_MS = 2000;

export interface CheckpointThreadOptions {
  /** Needed for folders that begin with s3:// only. */
  readonly s3?: StorageOptions['s3'];
  readonly onEvent: (event: CheckpointEvent) => void;
  readonly log: (level: 'info' | 'warn', line: string) => void;
  /** The thread died of a broken invariant. Without it the error is thrown where nothing catches it, which ends the daemon. */
  readonly onFailed?: (error: Error) => void;
}

/** Run from source (by the tests) the thread is the built one: Node 20 cannot start a thread from TypeScript. */
function threadFile(): string {
  const here = fileURLToPath(new URL('.', import.meta.url));
  return import.meta.url.endsWith('.ts') ? `${here}../../dist/worker/checkpoint/thread.js` : `${here}thread.js`;
}

/** The thread starts with the first command: a worker that neither saves nor restores has none. */
export function startCheckpointThread(options: CheckpointThreadOptions): Checkpoints {
  return new ThreadedCheckpoints(options);
}

function throwUncaught(error: Error): void {
  queueMicrotask(() => {
    throw error;
  });
}

class ThreadedCheckpoints implements Checkpoints {
  #thread: { readonly worker: Worker; readonly exited: Promise<unknown> } | undefined;
  #closed = false;

  constructor(private readonly options: CheckpointThreadOptions) {}

  tell(command: CheckpointCommand): void {
    if (!this.#closed) this.#started().postMessage({ kind: 'command', command } satisfies ToThread);
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#thread === undefined) return;
    const { worker, exited } = this.#thread;
    worker.postMessage({ kind: 'shut_down' } satisfies ToThread);
    const timer = setTimeout(() => void worker.terminate(), CLOSE_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }

  #started(): Worker {
    if (this.#thread !== undefined) return this.#thread.worker;
    const { s3, onEvent, onFailed, log } = this.options;
    const workerData: ThreadOptions = { storage: { s3 } };
    // Without the daemon's own flags: some of them (--input-type) forbid a file to be run. Descriptors are handed to the thread, so
    // it closes some that it did not open, of which Node would warn if it kept count of them.
    const worker = new Worker(threadFile(), { workerData, execArgv: [], trackUnmanagedFds: false });
    worker.on('error', onFailed ?? throwUncaught);
    worker.on('message', (message: FromThread) => {
      if (message.kind === 'event') onEvent(message.event);
      else log(message.level, message.line);
    });
    this.#thread = { worker, exited: once(worker, 'exit').catch(() => undefined) };
    return worker;
  }
}
