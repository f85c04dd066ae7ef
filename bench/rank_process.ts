/** A process that takes part in a collective benchmark. It reads one JSON object a line and answers each with one. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { z } from 'zod';
import type { Place } from './nets.js';

const STDERR_KEPT = 4000;

export interface RankProcessOptions {
  readonly name: string;
  readonly place: Place;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export class RankProcess {
  readonly name: string;
  readonly place: Place;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #answers: string[] = [];
  #wake: () => void = () => undefined;
  #stderr = '';
  #ended: string | undefined;

  constructor({ name, place, command, environment }: RankProcessOptions) {
    this.name = name;
    this.place = place;
    // setpriv becomes the command and keeps its pid; the kernel kills it when this process dies, however that happens. In a
    // group of its own it gets no Ctrl-C from the terminal.
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...place.prefix, ...command], {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: environment,
    });
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-STDERR_KEPT);
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.#answers.push(line);
      this.#wake();
    });
    this.#child.stdin.on('error', () => undefined);
    this.#child.once('error', (error) => this.#end(error.message));
    // Not on exit: what it wrote before may not have been read then.
    this.#child.once('close', (code, signal) => this.#end(`ended with ${signal ?? `status ${code}`}`));
  }

  #end(reason: string): void {
    this.#ended ??= reason;
    this.#wake();
  }

  /** Sends a message and resolves with its answer. One at a time. */
  async ask<T>(message: object, answer: z.ZodType<T>, limitMs: number): Promise<T> {
    this.#child.stdin.write(`${JSON.stringify(message)}\n`);
    const line = await this.#line(limitMs, JSON.stringify(message).slice(0, 200));
    return answer.parse(JSON.parse(line));
  }

  async #line(limitMs: number, asked: string): Promise<string> {
    const untilMs = performance.now() + limitMs;
    for (;;) {
      const line = this.#answers.shift();
      if (line !== undefined) return line;
      if (this.#ended !== undefined) throw new Error(`${this.name} ${this.#ended}, asked ${asked}\n${this.#stderr}`);
      const restMs = untilMs - performance.now();
      if (restMs <= 0)
        throw new Error(`${this.name} did not answer ${asked} within ${limitMs / 1000} s\n${this.#stderr}`);
      await this.#woken(restMs);
    }
  }

  async #woken(withinMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, withinMs);
    });
    clearTimeout(timer);
    this.#wake = () => undefined;
  }

  async kill(): Promise<void> {
    if (this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}
