/** bin/lockstep as a user runs it: its own folder, its own process group, its output line by line, and an end within a bound. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { Footprint } from './footprint.js';

export const repository = fileURLToPath(new URL('../..', import.meta.url));
/** Of each wait. Many times what any command takes on two quiet cores. */
const LIMIT_MS = 240_000;
/** For tests: longer than any command, so that it is the command which is blamed, with its logs. */
export const TEST_MS = 300_000;
/** For the kernel to take down what was told to die. */
const SETTLE_MS = 2000;
const LOG_CHARACTERS = 1500;

const anyEvent = z.looseObject({ event: z.string() });
type AnyEvent = z.output<typeof anyEvent>;

const readyEvent = z.object({
  event: z.literal('ready'),
  api: z.string(),
  dashboard: z.string(),
  etcd: z.string(),
  pids: z.object({ etcd: z.number(), coordinators: z.number().array(), workers: z.record(z.string(), z.number()) }),
});

const stepEvent = z.object({
  event: z.literal('step_committed'),
  step: z.number(),
  epoch: z.number(),
  loss: z.number(),
  generation: z.number(),
  samples: z.number(),
  step_ms: z.number(),
  data_ms: z.number(),
  compute_ms: z.number(),
  reduce_ms: z.number(),
  gather_ms: z.number(),
  apply_ms: z.number(),
  pulled_bytes: z.number(),
});
export type StepEvent = z.output<typeof stepEvent>;

const finishedEvent = z.object({
  event: z.literal('job_finished'),
  state: z.string(),
  steps: z.number(),
  loss: z.number().optional(),
  weights_digest: z.string(),
  reason: z.string(),
  traceback: z.string(),
  metrics: z.record(z.string(), z.number()),
  output: z.string(),
});

const node = z.object({ worker: z.string(), pid: z.number(), engine_pid: z.number(), state: z.string() });

export interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** From the start, milliseconds. */
  readonly tookMs: number;
}

/** One process of bin/lockstep. close() must be called at the end of the test, whatever came of it. */
export class Lockstep {
  readonly folder: string;
  readonly events: AnyEvent[] = [];
  readonly footprint: Footprint;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #read: Promise<unknown>;
  readonly #startedMs = performance.now();
  readonly #notJson: string[] = [];
  #stdout = '';
  #stderr = '';

  /** `{folder}` in an argument stands for the folder of this run. */
  constructor(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    this.folder = newFolder();
    // Of the environment only a few variables reach the engines and what the users' code starts; TMPDIR is one of them.
    const scratch = join(this.folder, 'tmp');
    mkdirSync(scratch, { recursive: true });
    const filled = args.map((arg) => arg.replaceAll('{folder}', this.folder));
    // The kernel kills it when the test process dies, however that happens; setpriv becomes it and keeps its pid.
    const command = ['--pdeathsig', 'KILL', process.execPath, join(repository, 'bin/lockstep'), ...filled];
    const child = spawn('setpriv', command, {
      cwd: this.folder,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: scratch, LOCKSTEP_SERVER: undefined, ...environment },
    });
    this.#child = child;
    // Only these two start processes of their own.
    const sampling = args[0] === 'run' || args[0] === 'up';
    this.footprint = new Footprint({ root: child.pid ?? 0, mark: this.folder, sampling });
    this.#exited = once(child, 'exit');
    child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString();
    });
    const lines = createInterface(child.stdout);
    lines.on('line', (line) => this.#line(line, args.includes('--json')));
    this.#read = once(lines, 'close');
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The first event that `matches`, past or to come. */
  async event(
    what: string,
    matches: (event: AnyEvent) => boolean = (event) => event.event === what,
  ): Promise<AnyEvent> {
    return this.until(what, () => this.events.find(matches));
  }

  async ready(): Promise<z.output<typeof readyEvent>> {
    const ready = readyEvent.parse(await this.event('ready'));
    this.footprint.sample();
    this.footprint.samplePorts();
    return ready;
  }

  async step(step: number): Promise<StepEvent> {
    return stepEvent.parse(
      await this.event(`step ${step}`, (one) => one.event === 'step_committed' && one['step'] === step),
    );
  }

  steps(): readonly StepEvent[] {
    return this.events.filter((one) => one.event === 'step_committed').map((one) => stepEvent.parse(one));
  }

  finished(): z.output<typeof finishedEvent> {
    return finishedEvent.parse(this.events.find((one) => one.event === 'job_finished'));
  }

  /** What `look` finds, as soon as it finds something. */
  async until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
    const untilMs = performance.now() + LIMIT_MS;
    for (;;) {
      const running = this.running;
      const found = await look();
      if (found !== undefined) return found;
      if (!running) throw this.#failure(`it ended with ${this.#child.exitCode} before: ${what}`);
      if (performance.now() > untilMs) throw this.#failure(`this did not come in time: ${what}`);
      await delay(20);
    }
  }

  /** To the launcher alone, as from `kill`. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** To its whole process group, as from a terminal's Ctrl-C. */
  killGroup(signal: NodeJS.Signals): void {
    process.kill(-this.pid, signal);
  }

  async end(): Promise<End> {
    await this.until('its end', () => (this.running ? undefined : true)).catch((error: unknown) => {
      if (this.running) throw error;
    });
    await Promise.all([this.#exited, this.#read]);
    if (this.#notJson.length > 0) throw this.#failure(`with --json it printed what is not JSON: ${this.#notJson[0]}`);
    return {
      code: this.#child.exitCode,
      signal: this.#child.signalCode,
      stdout: this.#stdout,
      stderr: this.#stderr,
      tookMs: performance.now() - this.#startedMs,
    };
  }

  /** Processes, open ports and files in /dev/shm of this run; waits `limitMs` for them to go. */
  left(limitMs = SETTLE_MS): Promise<readonly string[]> {
    return this.footprint.left(limitMs);
  }

  async close(): Promise<void> {
    if (this.running) this.kill('SIGKILL');
    await this.#exited;
    for (const pid of this.footprint.alive()) killQuietly(pid);
    await this.footprint.left(SETTLE_MS);
    this.footprint.close();
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** What the daemons logged, for a person who has to find out why a test failed. */
  logs(): string {
    const folders = [join(this.folder, 'logs'), join(this.folder, 'run', 'logs')];
    return folders.flatMap((folder) => logFiles(folder)).join('\n');
  }

  #line(line: string, isJson: boolean): void {
    this.#stdout += `${line}\n`;
    if (!isJson) return;
    try {
      // `nodes` and the like print objects that are no events.
      const event = anyEvent.safeParse(JSON.parse(line));
      if (event.success) this.events.push(event.data);
    } catch {
      this.#notJson.push(line);
    }
  }

  #failure(problem: string): Error {
    const stdout = this.#stdout.slice(-LOG_CHARACTERS);
    return new Error(`lockstep: ${problem}\nstdout: ${stdout}\nstderr: ${this.#stderr}\n${this.logs()}`);
  }
}

function logFiles(folder: string): readonly string[] {
  try {
    return readdirSync(folder).map((name) => {
      const text = readFileSync(join(folder, name), 'utf8');
      return `--- ${name}\n${text.slice(-LOG_CHARACTERS)}`;
    });
  } catch {
    return [];
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}

/** A folder whose name nothing else on this machine has. */
export function newFolder(): string {
  return mkdtempSync(join(tmpdir(), 'lockstep-system-'));
}

/** Runs a command to its end, and checks that it has left nothing. */
export async function runToEnd(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const lockstep = new Lockstep(args, environment);
  try {
    const end = await lockstep.end();
    return { end, lockstep, left: await lockstep.left() };
  } finally {
    await lockstep.close();
  }
}

/** The workers as `lockstep nodes` shows them. */
export async function nodesOf(server: string): Promise<readonly z.output<typeof node>[]> {
  const { end } = await runToEnd(['nodes', '--json', '--server', server]);
  return end.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => node.parse(JSON.parse(line)));
}

export const exampleJob = (name: string): string => join(repository, 'examples', basename(name), 'job.yaml');
