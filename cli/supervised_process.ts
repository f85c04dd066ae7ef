/** One process of a local cluster: started again when it dies, its output in a log file, gone with the launcher. */
import { type ChildProcess, spawn } from 'node:child_process';
import { EXIT_BAD_CONFIG } from '../shared/config.js';
import { RotatingLog } from '../shared/rotating_log.js';

const FIRST_PAUSE_MS = 200;
const MAX_PAUSE_MS = 5000;
/** A process that lived this long is started again at once when it dies. */
const STEADY_MS = 5000;

export interface ProcessExit {
  readonly name: string;
  readonly pid: number;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** It was told to end. */
  readonly expected: boolean;
  /** Its configuration is bad, so it is not started again. */
  readonly givenUp: boolean;
}

export interface SupervisedProcessOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly logPath: string;
  readonly onExit: (exit: ProcessExit) => void;
}

export class SupervisedProcess {
  readonly name: string;
  readonly #options: SupervisedProcessOptions;
  readonly #log: RotatingLog;
  #child: ChildProcess | undefined;
  #restart: NodeJS.Timeout | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #stopping = false;
  #onGone: () => void = () => {};
  /** Exits since it last ran for a while. */
  quickExits = 0;
  givenUp = false;

  constructor(options: SupervisedProcessOptions) {
    this.name = options.name;
    this.#options = options;
    this.#log = new RotatingLog(options.logPath);
    this.#start();
  }

  /** 0 while it does not run. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get logPath(): string {
    return this.#log.path;
  }

  /** SIGTERM; SIGKILL to its whole group when it is not gone after `graceMs`. Resolves when it is gone. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (child !== undefined) {
      const gone = new Promise<void>((resolve) => {
        this.#onGone = resolve;
      });
      child.kill('SIGTERM');
      // A frozen process takes no SIGTERM.
      child.kill('SIGCONT');
      const timer = setTimeout(() => this.kill(), graceMs);
      await gone;
      clearTimeout(timer);
    }
    this.#log.close();
  }

  /** SIGKILL to it and everything in its group; it is not started again. */
  kill(): void {
    this.#stopping = true;
    clearTimeout(this.#restart);
    killGroup(this.pid);
  }

  #start(): void {
    const { command, args, environment } = this.#options;
    // setpriv becomes the command and keeps its pid; the kernel kills it when the launcher dies, however that happens. As the
    // leader of its own group and session it gets no Ctrl-C from the terminal: the launcher decides who stops when.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: environment,
    });
    const startedMs = performance.now();
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => this.#keep(chunk));
    const exited = (code: number | null, signal: NodeJS.Signals | null): void => {
      if (this.#child === child) this.#exited(child.pid ?? 0, code, signal, performance.now() - startedMs);
    };
    child.once('error', (error) => {
      this.#keep(Buffer.from(`${error.message}\n`));
      if (child.pid === undefined) exited(null, null);
    });
    child.once('exit', exited);
  }

  /** A full disk, or a folder of logs that somebody removed, ends no cluster: the process goes on without its log. */
  #keep(chunk: Buffer): void {
    try {
      this.#log.write(chunk);
    } catch {
      // What comes later may find room again.
    }
  }

  #exited(pid: number, code: number | null, signal: NodeJS.Signals | null, livedMs: number): void {
    this.#child = undefined;
    // What it left in its group has no one to stop it any more.
    killGroup(pid);
    this.givenUp = code === EXIT_BAD_CONFIG;
    const steady = livedMs >= STEADY_MS;
    this.quickExits = steady ? 0 : this.quickExits + 1;
    if (!this.#stopping && !this.givenUp) this.#startSoon(steady);
    this.#options.onExit({ name: this.name, pid, code, signal, expected: this.#stopping, givenUp: this.givenUp });
    this.#onGone();
  }

  #startSoon(steady: boolean): void {
    if (steady) this.#pauseMs = FIRST_PAUSE_MS;
    this.#restart = setTimeout(() => this.#start(), steady ? 0 : this.#pauseMs);
    if (!steady) this.#pauseMs = Math.min(this.#pauseMs * 2, MAX_PAUSE_MS);
  }
}

/** A group exists as long as anything is in it, so its number cannot be another's. */
function killGroup(pid: number): void {
  // 0 stands for a process that could not be started; as a group it would be the launcher's own.
  if (pid <= 1) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nothing is left in it.
  }
}
