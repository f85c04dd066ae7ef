/** The main thread's side of the data plane: starts the thread and passes messages. */
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Credentials } from '../../shared/identity/credential_files.js';
import type { CredentialSource } from '../../shared/identity/kept_credentials.js';
import type { DataPlane, DataPlaneCommand, DataPlaneEvent } from './data_plane.js';
import type { FromThread, ThreadOptions, ToThread } from './thread_messages.js';

const CLOSE_TIMEOUT_MS = 2000;

export interface DataPlaneOptions {
  /** Address that the Peer service listens on. */
  readonly host: string;
  /** Port that it listens on; 0, the default, takes a free one. */
  readonly port?: number;
  readonly worker: string;
  readonly incarnation: string;
  /** Whether workers on this host read each other's exchange memory where it is, the default, or send it to each other. */
  readonly sameHost?: boolean;
  /** With them only workers of the same cluster are talked to, over TLS. */
  readonly credentials?: CredentialSource | undefined;
  readonly onEvent: (event: DataPlaneEvent) => void;
  readonly log: (level: 'info' | 'warn', line: string) => void;
  /** The thread died of a broken invariant. Without it the error is thrown where nothing catches it, which ends the daemon. */
  readonly onFailed?: (error: Error) => void;
}

/** Run from source (by the tests) the thread is the built one: Node 20 cannot start a thread from TypeScript. */
function threadFile(): string {
  const here = fileURLToPath(new URL('.', import.meta.url));
  return import.meta.url.endsWith('.ts') ? `${here}../../dist/worker/collective/thread.js` : `${here}thread.js`;
}

/** Resolves when the Peer service listens; rejects when it cannot. */
export function startDataPlane(options: DataPlaneOptions): Promise<DataPlane> {
  const { host, port = 0, worker: name, incarnation, sameHost = true } = options;
  const credentials = options.credentials?.current;
  const workerData: ThreadOptions = { host, port, worker: name, incarnation, sameHost, credentials };
  // Without the daemon's own flags: some of them (--input-type) forbid a file to be run. Descriptors are closed by those who opened them.
  const worker = new Worker(threadFile(), { workerData, execArgv: [], trackUnmanagedFds: false });
  let plane: ThreadedDataPlane | undefined;
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.on('message', (message: FromThread) => {
      if (message.kind === 'log') options.log(message.level, message.line);
      if (message.kind === 'obeyed') plane?.hasObeyed();
      if (message.kind !== 'event') return;
      if (message.event.kind === 'listening') {
        worker.off('error', reject);
        worker.on('error', options.onFailed ?? throwUncaught);
        const started = new ThreadedDataPlane(worker, message.event.port);
        plane = started;
        options.credentials?.onChange((next) => started.replaceCredentials(next));
        resolve(started);
      }
      options.onEvent(message.event);
    });
  });
}

function throwUncaught(error: Error): void {
  queueMicrotask(() => {
    throw error;
  });
}

class ThreadedDataPlane implements DataPlane {
  readonly #exited: Promise<void>;
  #hasExited = false;
  /** Those who wait until what they have told is done, in the order in which they are answered. */
  #waiting: (() => void)[] = [];

  constructor(
    private readonly worker: Worker,
    readonly port: number,
  ) {
    // From the beginning, because a thread that has died says so once.
    this.#exited = new Promise((resolve) => this.worker.once('exit', () => resolve()));
    void this.#exited.then(() => {
      this.#hasExited = true;
      for (const resolve of this.#waiting.splice(0)) resolve();
    });
  }

  tell(command: DataPlaneCommand): void {
    this.#post({ kind: 'command', command });
  }

  obeyed(): Promise<void> {
    if (this.#hasExited) return Promise.resolve();
    this.#post({ kind: 'say_when_obeyed' });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  hasObeyed(): void {
    this.#waiting.shift()?.();
  }

  replaceCredentials(credentials: Credentials): void {
    this.#post({ kind: 'credentials', credentials });
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
