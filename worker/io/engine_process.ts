/** An engine: a child process, its two pipes, its memory and what it prints. See docs/engine_protocol.md. */
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { ENDS_NOTHING, type EngineCommand, type EngineEvent } from '../core/engine_protocol.js';
import type { PrintedLine } from '../core/event.js';
import type { EnginePlace } from './engine_bounds.js';
import { engineEnvironment } from './engine_environment.js';
import { parseEngineEvent, problemOf } from './engine_events.js';
import { asEngine } from './engine_launch.js';
import { readLines } from './lines.js';
import { MemoryFile } from './memory_file.js';
import { PrintBatch } from './print_batch.js';
import type { Used } from './usage.js';

const CONTROL_LINE_LENGTH = 8 * 1024 * 1024;
const PRINTED_LINE_LENGTH = 8 * 1024;
const PRINT_BATCH_MS = 50;
/** Time for the last lines of an engine that has exited, should somebody else hold its pipes open. */
const LAST_WORDS_MS = 200;
/** Time between the end of what an engine says and its own; one that lives on has closed its pipe. */
const SILENT_MS = 1_000;

/** In the order of the stdio list. */
const DESCRIPTORS = '--control-in 3 --control-out 4 --exchange 5 --state 6 --snapshot 7'.split(' ');

export interface EngineOptions {
  readonly python: string;
  /** Number of the GPU, counted round those that there are. */
  readonly gpu: number;
  readonly threads: number;
  /** Folder with the code of the job. */
  readonly folder: string;
  readonly place: EnginePlace;
  /** What of the daemon's environment the user's code may see. */
  readonly environment: Readonly<Record<string, string>>;
  readonly onEvent: (event: EngineEvent) => void;
  readonly onLines: (lines: readonly PrintedLine[]) => void;
  /** Called once, when the engine and all that it started are gone. */
  readonly onExit: (reason: string) => void;
  /**
   * Called after that. Resolves when no thread of the daemon uses the engine's memory any more: a descriptor that is closed before may be another file's
   * by the time it is read or written.
   */
  readonly unused: () => Promise<void>;
}

function environmentOf({ environment, threads, place }: EngineOptions): Record<string, string> {
  // A user of its own has no home, and libraries keep caches there.
  const home = place.launch.user === undefined ? {} : { HOME: place.scratch };
  return { ...engineEnvironment(environment, threads), TMPDIR: place.scratch, ...home };
}

function closed(stream: Readable | Writable | null | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (stream === null || stream === undefined) resolve();
    else stream.once('close', resolve);
  });
}

/** Node blames the interpreter also where it is the folder that is not there. */
function whyNot(error: Error, folder: string): string {
  try {
    accessSync(folder, constants.X_OK);
    return error.message;
  } catch {
    return `the folder of the job's code, ${folder}, is not on this machine, or it may not be entered`;
  }
}

const MAY_BE_LAST: ReadonlySet<EngineEvent['event']> = new Set(['failed', 'evaluated', 'finished', 'exported']);

function failure(message: string): EngineEvent {
  return { event: 'failed', phase: 'control', kind: 'engine', message, traceback: '' };
}

function tooShort(
  { event, bytes }: { readonly event: string; readonly bytes: number },
  file: MemoryFile,
): EngineEvent | undefined {
  const size = file.size();
  return size < bytes ? failure(`the engine said ${event} of ${bytes} bytes in a memory of ${size}`) : undefined;
}

/** All three, or none. */
function memoryFiles(): readonly [MemoryFile, MemoryFile, MemoryFile] {
  const exchange = MemoryFile.createUnshrinkable('lockstep-exchange');
  const made = [exchange];
  try {
    const state = MemoryFile.create('lockstep-state');
    made.push(state);
    return [exchange, state, MemoryFile.create('lockstep-snapshot')];
  } catch (error) {
    for (const one of made) one.close();
    throw error;
  }
}

export class EngineProcess {
  readonly exchange: MemoryFile;
  readonly state: MemoryFile;
  readonly snapshot: MemoryFile;
  readonly #options: EngineOptions;
  readonly #child: ChildProcess;
  readonly #control: Writable;
  /** Commands told, and those of them that were answered. */
  #commands = 0;
  #answered = 0;
  readonly #printed = new PrintBatch();
  /** Each gives the line of a stream that has begun. */
  readonly #begunLines: (() => void)[] = [];
  readonly #printTimer: NodeJS.Timeout;
  /** A failure, and what came after it. */
  readonly #held: EngineEvent[] = [];

  /** Throws where nothing can be started at all, and leaves nothing open then. */
  constructor(options: EngineOptions) {
    this.#options = options;
    [this.exchange, this.state, this.snapshot] = memoryFiles();
    try {
      this.#child = this.#spawned();
    } catch (error) {
      this.#closeMemory();
      throw error;
    }
    const [, stdout, stderr, control, events] = this.#child.stdio;
    // The user's code is not loaded before it is told to.
    if (this.#child.pid !== undefined) options.place.group?.add(this.#child.pid);
    this.#control = control instanceof Writable ? control : new Writable();
    this.#control.on('error', () => undefined); // A dead engine is seen by its exit.
    if (stdout instanceof Readable) this.#print(stdout, 'stdout');
    if (stderr instanceof Readable) this.#print(stderr, 'stderr');
    if (events instanceof Readable) {
      readLines(events, CONTROL_LINE_LENGTH, (line) => this.#received(this.#eventIn(line)));
      events.once('end', () => this.#saysNothingMore());
    }
    const heard = Promise.all([stdout, stderr, events].map(closed));
    this.#printTimer = setInterval(() => this.#flush(), PRINT_BATCH_MS);
    this.#child.once('error', (error) => this.#exited(`it could not be started: ${whyNot(error, options.folder)}`));
    this.#child.once('exit', (code, signal) => {
      this.kill();
      const end = signal === null ? `exit status ${code}` : `signal ${signal}`;
      const reason = options.place.group?.ranOutOfMemory() ? `${end}: it was killed for its memory` : end;
      void Promise.race([heard, delay(LAST_WORDS_MS)]).then(() => this.#exited(reason));
    });
  }

  #spawned(): ChildProcess {
    const { place, python, gpu, folder } = this.#options;
    const args = ['-m', 'lockstep.engine', ...DESCRIPTORS, '--gpu', String(gpu)];
    const command = asEngine(place.launch, { program: python, args });
    // A process group of its own, so that it can be killed together with everything that the user's code starts.
    const child = spawn(command.program, [...command.args], {
      cwd: folder,
      env: environmentOf(this.#options),
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', this.exchange.fd, this.state.fd, this.snapshot.fd],
    });
    // Without descriptors for its pipes Node gives none, and emits an error in the next turn.
    if (child.stdio === undefined) {
      child.once('error', () => undefined);
      throw new Error('it could not be started: this daemon has no file descriptor left (LimitNOFILE=, ulimit -n)');
    }
    return child;
  }

  #closeMemory(): void {
    for (const memory of [this.exchange, this.state, this.snapshot]) memory.close();
  }

  /** 0 when it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** See UsageMeter. */
  groupUsed(): Used | undefined {
    return this.#options.place.group?.used();
  }

  /** The core names the code as the coordinator does; the engine is told the folder in which it lies here. */
  tell(command: EngineCommand): void {
    this.#commands += 1;
    const told = command.command === 'load' ? { ...command, bundle: this.#options.folder } : command;
    this.#control.write(`${JSON.stringify({ id: this.#commands, ...told })}\n`);
  }

  /** SIGKILL to its whole process group, and to all of its control group. */
  kill(): void {
    this.#options.place.group?.kill();
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // The group is gone already.
    }
  }

  #exited(reason: string): void {
    clearInterval(this.#printTimer);
    this.#flush();
    this.#tellHeld();
    this.#options.onExit(reason);
    void this.#options.unused().then(() => this.#closeMemory());
  }

  #eventIn(line: string): EngineEvent {
    try {
      const { event, answers } = parseEngineEvent(line);
      return this.#mistakeIn(event, answers) ?? event;
    } catch (error) {
      return failure(`the engine said something that cannot be understood: ${problemOf(error)}`);
    }
  }

  /** What the core cannot see of it: the number of the command, and how long the memory files are. */
  #mistakeIn(event: EngineEvent, answers: number | undefined): EngineEvent | undefined {
    if (event.event === 'started' || event.event === 'failed') return undefined;
    const due = this.#answered + 1;
    if (answers !== due) return failure(`the engine said ${event.event} to command ${answers}, not to ${due}`);
    if (!ENDS_NOTHING.has(event.event)) this.#answered = due;
    if (event.event === 'state_exported') return tooShort(event, this.state);
    if (event.event === 'snapshot_taken') return tooShort(event, this.snapshot);
    return undefined;
  }

  #saysNothingMore(): void {
    const look = (): void => {
      const { exitCode, signalCode } = this.#child;
      if (exitCode === null && signalCode === null) this.#received(failure('the engine has closed its control pipe'));
    };
    setTimeout(look, SILENT_MS).unref();
  }

  /** What may end the job waits for what was printed before it: that lies ready in the other pipes, which this turn reads. */
  #received(event: EngineEvent): void {
    if (!MAY_BE_LAST.has(event.event) && this.#held.length === 0) {
      this.#options.onEvent(event);
      return;
    }
    this.#held.push(event);
    if (this.#held.length > 1) return;
    setImmediate(() => {
      if (this.#held.some((one) => one.event === 'failed')) for (const endBegun of this.#begunLines) endBegun();
      this.#flush();
      this.#tellHeld();
    });
  }

  #tellHeld(): void {
    for (const event of this.#held.splice(0)) this.#options.onEvent(event);
  }

  #print(stream: Readable, name: string): void {
    const keep = (text: string): void => this.#printed.add({ timeMs: Date.now(), stream: name, text });
    this.#begunLines.push(readLines(stream, PRINTED_LINE_LENGTH, keep));
  }

  #flush(): void {
    const lines = this.#printed.take(Date.now());
    if (lines.length > 0) this.#options.onLines(lines);
  }
}
