/**
 * `npm run bench:dashboard`: whether training notices who looks. A whole cluster trains a job; beside it simulated workers report
 * thousands of steps a second to the same coordinator, and pages look at its dashboard over real sockets, one of them frozen. In turn:
 * training alone, with the source of events, and with source and pages.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { type CleanUp, runBenchmark } from './clean_up.js';
import { Audience } from './dashboard/audience.js';
import { type Ground, openGround } from './dashboard/ground.js';
import type { PagesClosed } from './dashboard/messages.js';
import {
  type DashboardReport,
  givenTo,
  linesOf,
  type Round,
  ratiosOf,
  rowsOf,
  type Setup,
  tableOf,
} from './dashboard/report.js';
import { type Mode, measureWindow, type Window } from './dashboard/window.js';
import { describe, loadNow, thisMachine } from './machine.js';
import { wholeNumber } from './options.js';
import { torchVersion } from './python.js';
import { writeReport } from './report_file.js';

/** Before a window: what began or ended has done so everywhere. */
const SETTLE_MS = 1_500;
/** At the full rate before anything is measured: by then every job has all the events that the coordinator keeps of one. */
const FILL_MS = 12_000;
/** A window in which other processes took more of the machine than so many cores is measured again, in all not more often than this. */
const MAX_FOREIGN_CORES = 0.15;
const MAX_REPEATED = 10;

interface Options extends Omit<Setup, 'windowSeconds'> {
  readonly rounds: number;
  readonly seconds: number;
  readonly json: string | undefined;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function parseOptions(): Options {
  return new Command('bench:dashboard')
    .option('--rounds <n>', 'of three windows each', wholeNumber(1, 100), 5)
    .option('--seconds <n>', 'length of a window; a frozen page is dropped after 15', wholeNumber(2, 600), 7)
    .option('--workers <n>', 'of the job that trains', wholeNumber(1, 16), 2)
    .option(
      '--microbatch-ms <n>',
      'as long an accelerator would compute; 0: the processor alone',
      wholeNumber(0, 10_000),
      50,
    )
    .option('--rate <n>', 'events a second', wholeNumber(1, 1_000_000), 10_000)
    .option('--source-jobs <n>', 'that make them', wholeNumber(1, 200), 10)
    .option('--pages <n>', 'that look, with the frozen one', wholeNumber(2, 64), 20)
    .option('--json <file>', 'write the figures there')
    .parse()
    .opts();
}

class DashboardBenchmark {
  readonly #closed: PagesClosed[] = [];
  #openMs = 0;
  #repeated = 0;
  #beganMs = 0;

  constructor(
    private readonly options: Options,
    private readonly cleanUp: CleanUp,
  ) {}

  async run(): Promise<void> {
    const [machine, torch, began, loadBefore] = [thisMachine(), torchVersion(), new Date().toISOString(), loadNow()];
    say(`${describe(machine)}; PyTorch ${torch}`);
    const ground = await openGround(this.options, this.cleanUp);
    const audience = new Audience(this.options.pages, this.cleanUp);
    ground.source.tell({ kind: 'rate', stepsPerSecond: this.options.rate });
    await delay(FILL_MS);
    this.#beganMs = performance.now();
    const rounds: Round[] = [];
    while (rounds.length < this.options.rounds) {
      rounds.push(await this.#round(ground, audience, rounds.length % 2 === 1));
    }
    const report = {
      benchmark: 'dashboard' as const,
      machine,
      torch,
      began,
      ...this.#figuresOf(rounds),
      loadBefore,
      loadAfter: loadNow(),
    };
    writeReport(this.options.json, report);
    say(`${tableOf(report)}\n${linesOf(report)}`);
    if (this.options.json === undefined) say(JSON.stringify(report));
  }

  /** Backwards in every second one, so that what changes slowly favours none. */
  async #round(ground: Ground, audience: Audience, backwards: boolean): Promise<Round> {
    const measure = (mode: Mode) => this.#undisturbed(ground, audience, mode);
    if (!backwards) {
      return { alone: await measure('alone'), source: await measure('source'), viewers: await measure('viewers') };
    }
    return { viewers: await measure('viewers'), source: await measure('source'), alone: await measure('alone') };
  }

  async #undisturbed(ground: Ground, audience: Audience, mode: Mode): Promise<Window> {
    for (;;) {
      const window = await this.#window(ground, audience, mode);
      if (window.foreignCores <= MAX_FOREIGN_CORES || this.#repeated >= MAX_REPEATED) return window;
      this.#repeated += 1;
    }
  }

  async #window(ground: Ground, audience: Audience, mode: Mode): Promise<Window> {
    const { rate, pages, seconds } = this.options;
    ground.source.tell({ kind: 'rate', stepsPerSecond: mode === 'alone' ? 0 : rate });
    const looking = mode === 'viewers' ? await audience.open(ground) : undefined;
    const openedMs = performance.now();
    await delay(SETTLE_MS);
    const window = await measureWindow(ground, { mode, seconds, beganMs: this.#beganMs, pages: audience });
    if (looking !== undefined) {
      this.#openMs += performance.now() - openedMs;
      this.#closed.push(await looking.close());
      if (window.viewers !== pages)
        throw new Error(`${window.viewers} pages were connected at the end instead of ${pages}`);
    }
    say(
      `  ${mode}: ${window.stepsPerSecond.toFixed(3)} steps/s, ${window.eventsPerSecond.toFixed(0)} events/s, others ${(window.foreignCores * 100).toFixed(0)} % of a core`,
    );
    return window;
  }

  #figuresOf(
    rounds: readonly Round[],
  ): Pick<DashboardReport, 'setup' | 'rows' | 'ratios' | 'given' | 'memory' | 'repeated'> {
    const { workers, microbatchMs, sourceJobs, rate, pages, seconds: windowSeconds } = this.options;
    return {
      setup: { workers, microbatchMs, sourceJobs, rate, pages, windowSeconds },
      rows: rowsOf(rounds),
      ratios: ratiosOf(rounds),
      given: givenTo(this.#closed, this.#openMs / 1000, pages - 1),
      repeated: this.#repeated,
      memory: rounds.flatMap((round) => Object.values(round).flatMap(({ memory }) => memory)),
    };
  }
}

await runBenchmark((cleanUp) => new DashboardBenchmark(parseOptions(), cleanUp).run());
