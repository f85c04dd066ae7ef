/** The main thread's side of the checkpoint thread: starts it and passes messages. */
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

export function startCheckpointThread(options: CheckpointThreadOptions): Checkpoints {
  const workerData: ThreadOptions = { storage: { s3: options.s3 } };
  // Without the daemon's own flags: some of them (--input-type) forbid a file to be run. Descriptors are handed to the thread, so
  // it closes some that it did not open, of which Node would warn if it kept count of them.
  const worker = new Worker(threadFile(), { workerData, execArgv: [], trackUnmanagedFds: false });
  worker.on('error', options.onFailed ?? throwUncaught);
  worker.on('message', (message: FromThread) => {
    if (message.kind === 'event') options.onEvent(message.event);
    else options.log(message.level, message.line);
  });
  return new ThreadedCheckpoints(worker);
}

function throwUncaught(error: Error): void {
  queueMicrotask(() => {
    throw error;
  });
}

class ThreadedCheckpoints implements Checkpoints {
  readonly #exited: Promise<void>;

  constructor(private readonly worker: Worker) {
    this.#exited = new Promise((resolve) => worker.once('exit', () => resolve()));
  }

  tell(command: CheckpointCommand): void {
    this.#post({ kind: 'command', command });
  }

  async close(): Promise<void> {
    this.#post({ kind: 'shut_down' });
    const timer = setTimeout(() => void this.worker.terminate(), CLOSE_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  #post(message: ToThread): void {
    this.worker.postMessage(message);
  }
}
