/**
 * `npm run bench:allreduce`: how long the data plane takes to reduce a vector over all workers, beside Gloo's all-reduce of a tensor of as
 * many elements. Each worker and each rank is a process of its own; the two peers take turns, repetition by repetition. Every
 * combination is verified before it is measured.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { createAuthority, validForDays } from '../shared/certificates/authority.js';
import { writeAuthority } from '../shared/certificates/folder.js';
import { makeCertificate } from '../shared/certificates/make.js';
import { type Group, startGloo, startLockstep } from './allreduce_groups.js';
import { MOST_WORKERS } from './allreduce_job.js';
import {
  type AllReduceReport,
  type Cell,
  isMeasured,
  type Measured,
  nameOf,
  type Skipped,
  tableOf,
} from './allreduce_report.js';
import { type CleanUp, runBenchmark } from './clean_up.js';
import { figuresOf, figuresText, short } from './figures.js';
import { FORMATS, type Format } from './formats.js';
import { describe, loadNow, thisMachine } from './machine.js';
import { checkCanMake, megabitsOf, NETS, type Net, openNet } from './nets.js';
import { sizesOf, wholeNumber, wholeNumbers, wordOf, wordsOf } from './options.js';
import { torchVersion } from './python.js';
import { writeReport } from './report_file.js';

/** Longer all-reduces are not worth waiting for. */
const LONGEST_MS = 20_000;
/** A repetition of one peer takes about as long as this, if that is not less than one all-reduce. */
const REPETITION_MS = 1000;
const MOST_REDUCES = 25;
/** Both peers first reduce for so long: a job makes thousands of steps, and what is measured is not what the first few take. */
const WARM_UP_MS = 3000;
const MOST_WARM_UPS = 1000;
/** Two, so that both slots of Lockstep's reduced vectors are verified. */
const CHECKS = 2;
/** So that each of the most workers owns a part of the vector, even of one that is sent as bf16. */
const LEAST_BYTES = 2048;
const GLOO_TYPES = ['float32', 'float16', 'bfloat16'] as const;

interface Options {
  readonly nets: readonly Net[];
  readonly workers: readonly number[];
  readonly formats: readonly Format[];
  /** Bytes of the fp32 vector. */
  readonly sizes: readonly number[];
  readonly repetitions: number;
  readonly tls?: true;
  readonly glooType: (typeof GLOO_TYPES)[number];
  readonly json: string | undefined;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function parseOptions(): Options {
  return new Command('bench:allreduce')
    .option('--nets <list>', `of ${NETS.join(', ')}; all but the first two need root`, wordsOf(NETS), ['loopback'])
    .option('--workers <list>', 'numbers of workers', wholeNumbers(2, MOST_WORKERS), [2, 4])
    .option('--formats <list>', `of ${FORMATS.join(', ')}: what Lockstep sends`, wordsOf(FORMATS), ['fp32'])
    .option('--sizes <list>', 'of the vector as fp32', sizesOf(LEAST_BYTES, 2 ** 30), [
      4096,
      ...[1, 25, 100, 256].map((mebibytes) => mebibytes * 2 ** 20),
    ])
    .option('--repetitions <n>', 'of each peer', wholeNumber(1, 1000), 5)
    .option('--gloo-type <type>', `${GLOO_TYPES.join(', ')}: what Gloo sends`, wordOf(GLOO_TYPES), 'float32')
    .option('--tls', "Lockstep's workers talk over TLS; Gloo has none")
    .option('--json <file>', 'write the figures there')
    .parse()
    .opts();
}

/** All-to-all as well as a ring sends this share of the vector over each link, in each direction. */
function linkMs({ net, workers, elements }: Cell): number {
  const megabits = megabitsOf(net);
  if (megabits === undefined) return 0;
  return (((2 * (workers - 1)) / workers) * elements * 4 * 8) / (megabits * 1000);
}

function oddNumberNear(count: number): number {
  return 2 * Math.floor(Math.min(MOST_REDUCES, count) / 2) + 1;
}

class AllReduceBenchmark {
  readonly #rows: (Measured | Skipped)[] = [];
  readonly #began = new Date().toISOString();
  readonly #machine = thisMachine();
  readonly #torch = torchVersion();

  constructor(
    private readonly options: Options,
    private readonly cleanUp: CleanUp,
  ) {}

  async run(): Promise<void> {
    const { nets, workers, json } = this.options;
    checkCanMake(nets);
    say(`${describe(this.#machine)}; PyTorch ${this.#torch}`);
    for (const net of nets) {
      for (const count of workers) await this.#measureNet(net, count);
    }
    this.#print();
    if (json === undefined) say(JSON.stringify(this.#report()));
  }

  async #measureNet(net: Net, workers: number): Promise<void> {
    const cells = this.#cellsOf(net, workers).filter((cell) => {
      const skipped = this.#whyNotMeasured(cell);
      if (skipped !== undefined) this.#add({ ...cell, skipped });
      return skipped === undefined;
    });
    if (cells.length === 0) return;
    const open = openNet(net, workers);
    const close = this.cleanUp.add(() => open.close());
    const groups: Group[] = [];
    const kill = this.cleanUp.add(async () => void (await Promise.all(groups.map((group) => group.kill()))));
    try {
      const lockstep = await startLockstep(open.places, net === 'samehost', await this.#certificates());
      groups.push(lockstep);
      const gloo = await startGloo(open.places, this.options.glooType);
      groups.push(gloo);
      for (const cell of cells) this.#add(await this.#measure(cell, lockstep, gloo));
    } finally {
      await kill();
      await close();
    }
  }

  async #certificates(): Promise<string | undefined> {
    if (!this.options.tls) return undefined;
    const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-'));
    this.cleanUp.add(async () => rmSync(folder, { recursive: true, force: true }));
    writeAuthority(folder, await createAuthority(validForDays(1)));
    for (let rank = 0; rank < Math.max(...this.options.workers); rank++) {
      const identity = { role: 'worker', name: `w${rank}` } as const;
      await makeCertificate(folder, join(folder, `worker-w${rank}`), { kind: 'identity', identity }, validForDays(1));
    }
    return folder;
  }

  #cellsOf(net: Net, workers: number): readonly Cell[] {
    const { formats, sizes, glooType: peerType } = this.options;
    return formats.flatMap((format) => sizes.map((bytes) => ({ net, workers, format, peerType, elements: bytes / 4 })));
  }

  #whyNotMeasured(cell: Cell): string | undefined {
    const expectedMs = linkMs(cell);
    if (expectedMs <= LONGEST_MS) return undefined;
    return `one all-reduce in fp32 takes ${(expectedMs / 1000).toFixed(0)} s on such a link`;
  }

  async #measure(cell: Cell, lockstep: Group, gloo: Group): Promise<Measured | Skipped> {
    const peers = [lockstep, gloo];
    const vector = { elements: cell.elements, format: cell.format };
    const loadBefore = loadNow();
    const failuresBefore = lockstep.failures;
    for (const peer of peers) await peer.open(vector);
    for (let check = 0; check < CHECKS; check++) for (const peer of peers) await peer.check();
    const warmMs: number[] = [];
    for (const peer of peers) warmMs.push(await peer.reduce());
    const longestMs = Math.max(...warmMs);
    if (longestMs > LONGEST_MS) {
      for (const peer of peers) await peer.close();
      return { ...cell, skipped: `one all-reduce took ${(longestMs / 1000).toFixed(0)} s` };
    }
    const warmUps = Math.ceil(Math.min(MOST_WARM_UPS, WARM_UP_MS / longestMs));
    for (const peer of peers) await peer.repetition(warmUps);
    const reducesEach = oddNumberNear(REPETITION_MS / longestMs);
    const times: [number[], number[]] = [[], []];
    for (let repetition = 0; repetition < this.options.repetitions; repetition++) {
      times[0].push(await lockstep.repetition(reducesEach));
      times[1].push(await gloo.repetition(reducesEach));
    }
    for (const peer of peers) await peer.close();
    const [ours, theirs] = [figuresOf(times[0]), figuresOf(times[1])];
    const failures = lockstep.failures - failuresBefore;
    const loadAfter = loadNow();
    const ratio = theirs.median / ours.median;
    return { ...cell, lockstep: ours, gloo: theirs, ratio, reducesEach, failures, loadBefore, loadAfter };
  }

  #add(row: Measured | Skipped): void {
    this.#rows.push(row);
    if (!isMeasured(row)) {
      say(`${nameOf(row)}: skipped, ${row.skipped}`);
      return;
    }
    const { lockstep, gloo, ratio, failures, loadBefore, loadAfter } = row;
    const load = `load ${loadBefore.toFixed(2)} to ${loadAfter.toFixed(2)}`;
    const again = failures === 0 ? '' : `; ${failures} pulls failed and were made again`;
    say(
      `${nameOf(row)}: ${figuresText(lockstep)} ms, Gloo ${figuresText(gloo)} ms, ratio ${short(ratio)}; ${load}${again}`,
    );
    // After each row, so that an interrupted run leaves what it has measured.
    writeReport(this.options.json, this.#report());
  }

  #report(): AllReduceReport {
    return {
      benchmark: 'allreduce',
      peer: 'Gloo',
      machine: this.#machine,
      torch: this.#torch,
      began: this.#began,
      repetitions: this.options.repetitions,
      tls: this.options.tls === true,
      rows: this.#rows.filter(isMeasured),
      skipped: this.#rows.filter((row): row is Skipped => !isMeasured(row)),
    };
  }

  #print(): void {
    const { repetitions } = this.options;
    say(
      `\nMilliseconds of one all-reduce, the slowest worker's: median (least - most) of ${repetitions} repetitions in turn, each the ` +
        `median of up to ${MOST_REDUCES}. Above 1 Lockstep is the faster one.\n${tableOf(this.#report())}`,
    );
    for (const row of this.#rows) if (!isMeasured(row)) say(`${nameOf(row)}: skipped, ${row.skipped}`);
    say(describe(this.#machine));
  }
}

await runBenchmark((cleanUp) => new AllReduceBenchmark(parseOptions(), cleanUp).run());
