/**
 * One worker of bench:allreduce: the data plane of a worker daemon with memory of its own, told what the worker's core would tell it.
 *
 *     node allreduce_worker.js RANK HOST SAME_HOST [CERTIFICATES]
 */
import { createInterface } from 'node:readline';
import { credentialFilesOf, readCredentials } from '../shared/identity/credential_files.js';
import type { DataPlane, DataPlaneEvent, Peer } from '../worker/collective/data_plane.js';
import { startDataPlane } from '../worker/collective/start_data_plane.js';
import { MemoryFile } from '../worker/io/memory_file.js';
import {
  countWrong,
  type ExchangeJob,
  fileBytes,
  fill,
  openJob,
  partialPattern,
  publishCommand,
  reduceCommand,
  slotOf,
  sumPattern,
  type Vector,
} from './allreduce_job.js';
import { type Request, request } from './allreduce_messages.js';

const UNTOUCHED = 0xff;

class BenchWorker {
  readonly #rank: number;
  #plane: DataPlane | undefined;
  #roster: readonly Peer[] = [];
  #jobs = 0;
  #open: (ExchangeJob & { step: number }) | undefined;
  #failures = 0;
  #onReduced: (step: number) => void = () => undefined;

  constructor(rank: number) {
    this.#rank = rank;
  }

  async start(host: string, sameHost: boolean, certificates: string | undefined): Promise<number> {
    const name = `w${this.#rank}`;
    const log = (level: string, line: string): void => void process.stderr.write(`${level} ${line}\n`);
    const onEvent = (event: DataPlaneEvent): void => this.#heard(event);
    const incarnation = `${name}-1`;
    const credentials =
      certificates === undefined
        ? undefined
        : { current: readCredentials(credentialFilesOf(certificates)), onChange: () => undefined };
    this.#plane = await startDataPlane({ host, worker: name, incarnation, sameHost, credentials, onEvent, log });
    return this.#plane.port;
  }

  #heard(event: DataPlaneEvent): void {
    if (event.kind === 'peer_failed') this.#failures++;
    if (event.kind === 'reduced') this.#onReduced(event.step);
  }

  async answer(message: Request): Promise<object> {
    switch (message.do) {
      case 'join':
        this.#roster = message.roster;
        return { done: true };
      case 'open':
        this.#openJob(message);
        return { done: true };
      case 'check':
        return { wrong: await this.#check() };
      case 'reduce':
        return { ms: await this.#reduce(message.atNs), failures: this.#failures };
      case 'close':
        this.#closeJob();
        return { done: true };
    }
  }

  #openJob({ elements, format }: Vector): void {
    const job = `job-${++this.#jobs}`;
    const file = MemoryFile.create(job);
    file.grow(fileBytes({ elements, format }));
    this.#open = { job, file, elements, format, microbatches: this.#roster.length, step: 0 };
    const own = slotOf(this.#open, this.#open, 2);
    fill(own, this.#open, partialPattern(this.#rank));
    this.#plane?.tell(openJob(this.#open));
    const [rank, roster] = [this.#rank, this.#roster];
    this.#plane?.tell({ kind: 'start_generation', job, term: 1, generation: 1, rank, roster });
    this.#tellReduce();
  }

  /** Told ahead, as by a worker's core, which tells it when the step begins and its gradient is still to be computed. */
  #tellReduce(): void {
    const { job, step } = this.#opened();
    this.#plane?.tell(reduceCommand(job, step, this.#roster.length));
  }

  #closeJob(): void {
    const { job, file } = this.#opened();
    this.#plane?.tell({ kind: 'close_job', job });
    file.close();
    this.#open = undefined;
  }

  #opened(): ExchangeJob & { step: number } {
    if (this.#open === undefined) throw new Error('no vector is open');
    return this.#open;
  }

  async #check(): Promise<number> {
    const open = this.#opened();
    const slot = slotOf(open, open, open.step % 2);
    slot.bytes(0, slot.length).fill(UNTOUCHED);
    await this.#reduce();
    const wrong = countWrong(slot, open, sumPattern(this.#roster.length));
    slot.release();
    return wrong;
  }

  /** Milliseconds from the own partial, at a time of the machine's monotonic clock or now, to the whole reduced vector. */
  async #reduce(atNs = 0): Promise<number> {
    const open = this.#opened();
    const { job, step } = open;
    const whole = new Promise<void>((resolve) => {
      this.#onReduced = (reduced) => {
        if (reduced === step) resolve();
      };
    });
    sleepUntil(atNs);
    const beganMs = performance.now();
    this.#plane?.tell(publishCommand(job, step, this.#rank));
    await whole;
    const tookMs = performance.now() - beganMs;
    // The others may still be reading the partial of this step.
    this.#plane?.tell({ kind: 'drop_partials', job, step });
    open.step++;
    this.#tellReduce();
    return tookMs;
  }
}

/** Timers of the event loop are true to a millisecond only. */
function sleepUntil(atNs: number): void {
  const restMs = atNs / 1e6 - Number(process.hrtime.bigint()) / 1e6;
  if (restMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, restMs);
}

const [rank = '', host = '', sameHost = '', certificates] = process.argv.slice(2);
const worker = new BenchWorker(Number(rank));
const say = (answer: object): void => void process.stdout.write(`${JSON.stringify(answer)}\n`);
const port = await worker.start(host, sameHost === 'true', certificates);
for await (const line of createInterface({ input: process.stdin })) {
  const message: unknown = JSON.parse(line);
  say(isHello(message) ? { port } : await worker.answer(request.parse(message)));
}
process.exit(0);

function isHello(message: unknown): boolean {
  return typeof message === 'object' && message !== null && Object.keys(message).length === 0;
}
