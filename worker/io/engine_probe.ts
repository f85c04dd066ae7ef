/** Starts engine/preflight.py with the interpreter and the environment of engines, as the daemon's user, and hears how far it comes and how fast it is. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { z } from 'zod';
import { isOldTorch, OLDEST_TORCH } from '../../shared/fitness.js';
import { engineEnvironment, engineFolder } from './engine_environment.js';
import { readLines } from './lines.js';

/** A cold disk takes long to read PyTorch. */
const LIMIT_MS = 120_000;
const MOST_LINE_LENGTH = 8_192;
const TEXT_LENGTH = 1_000;

const text = z.string().transform((value) => value.slice(0, TEXT_LENGTH));
const said = z.object({
  python: text.optional(),
  memfd: text.optional(),
  torch: z.string().max(64).optional(),
  /** Version of CUDA that this PyTorch is built for; empty if for none. */
  cuda: text.optional(),
  device: z.string().max(64).optional(),
  device_name: z.string().max(255).optional(),
  gpus: z.number().int().min(0).optional(),
  device_free_bytes: z.number().int().min(0).optional(),
  matmul_gflops: z.number().positive().optional(),
  problem: text.optional(),
});

type Said = z.output<typeof said>;

export interface EngineFound {
  /** Versions; empty if it did not come so far. */
  readonly python: string;
  readonly torch: string;
  readonly cuda: string;
  /** Why memory files cannot be made; empty if they can. */
  readonly memfd: string;
  /** Empty if it did not start. */
  readonly device: string;
  readonly deviceName: string;
  readonly gpus: number;
  readonly deviceFreeBytes: number;
  /** From the launch to the moment at which an engine would take its first command; 0 if it did not start. */
  readonly startMs: number;
  readonly matmulGflops: number;
  /** What it failed with; empty if with nothing. */
  readonly failure: string;
}

export interface EngineProbeOptions {
  readonly python: string;
  readonly gpu: number;
  /** See engineEnvironment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Told the id of the process as soon as there is one. */
  readonly onStarted?: (pid: number) => void;
}

/** Why no engine can run here; empty if one can. */
export function engineProblemOf(found: EngineFound): string {
  if (found.failure !== '') return found.failure;
  if (found.memfd !== '') return `memfd_create: ${found.memfd}`;
  if (isOldTorch(found.torch)) return `PyTorch ${found.torch} is older than ${OLDEST_TORCH.join('.')}`;
  return '';
}

/** Never rejects: what goes wrong is what was to be found. Once the signal is aborted nothing of it runs any more. */
export function probeEngine(options: EngineProbeOptions): Promise<EngineFound> {
  return new Promise((done) => new EngineProbe(options, done).begin());
}

class EngineProbe {
  readonly #launchedMs = performance.now();
  readonly #kill = (): void => this.#killAll();
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #heard: Said = {};
  #startMs = 0;
  #lastWords = '';
  #tookTooLong = false;

  constructor(
    private readonly options: EngineProbeOptions,
    private readonly done: (found: EngineFound) => void,
  ) {}

  begin(): void {
    const { python, gpu, environment, signal, onStarted } = this.options;
    try {
      // A process group of its own, as engines have: the interpreter may be a script that starts the real one.
      const child = spawn(python, [join(engineFolder(), 'preflight.py'), '--gpu', String(gpu)], {
        env: engineEnvironment(environment, 1),
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      this.#child = child;
      readLines(child.stdout, MOST_LINE_LENGTH, (line) => this.#hear(line));
      readLines(child.stderr, MOST_LINE_LENGTH, (line) => {
        if (line.trim() !== '') this.#lastWords = line.trim().slice(0, TEXT_LENGTH);
      });
      child.once('error', (error) => this.#end(error.message));
      // Whoever still holds its pipes is not waited for.
      child.once('exit', this.#kill);
      child.once('close', (code, reason) =>
        this.#end(
          reason === null ? `exit status ${code}, and it said nothing that can be understood` : `signal ${reason}`,
        ),
      );
    } catch (error) {
      this.#end(error instanceof Error ? error.message : String(error));
      return;
    }
    signal.addEventListener('abort', this.#kill, { once: true });
    this.#timer = setTimeout(() => {
      this.#tookTooLong = true;
      this.#killAll();
    }, LIMIT_MS);
    if (this.#child.pid !== undefined) onStarted?.(this.#child.pid);
  }

  #hear(line: string): void {
    const parsed = parse(line);
    if (parsed?.device !== undefined) this.#startMs = performance.now() - this.#launchedMs;
    this.#heard = { ...this.#heard, ...parsed };
  }

  /** The whole process group. */
  #killAll(): void {
    if (this.#child?.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // The group is gone already.
    }
  }

  #end(how: string): void {
    clearTimeout(this.#timer);
    this.options.signal.removeEventListener('abort', this.#kill);
    const silent = this.#tookTooLong ? `it took longer than ${LIMIT_MS / 1000} s` : this.#lastWords || how;
    this.done(foundOf(this.#heard, this.#startMs, silent));
  }
}

function parse(line: string): Said | undefined {
  try {
    return said.safeParse(JSON.parse(line)).data;
  } catch {
    // A library's own print.
    return undefined;
  }
}

/** `silent`: what ended it, should it have said nothing of that itself. */
function foundOf(heard: Said, startMs: number, silent: string): EngineFound {
  const { python = '', torch = '', cuda = '', memfd = '', device = '', device_name: deviceName = '' } = heard;
  const isWhole = heard.matmul_gflops !== undefined;
  return {
    ...{ python, torch, cuda, memfd, device, deviceName, startMs },
    gpus: heard.gpus ?? 0,
    deviceFreeBytes: heard.device_free_bytes ?? 0,
    matmulGflops: heard.matmul_gflops ?? 0,
    failure: heard.problem ?? (isWhole ? '' : silent),
  };
}
