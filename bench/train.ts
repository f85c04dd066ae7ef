/**
 * `npm run bench:train`: steps a second of a model of 1 M and of 25 M parameters under Lockstep and under torch.distributed.run with
 * DistributedDataParallel and Gloo, in turn: the same weights to begin with, samples, optimizer and threads. The losses of the last step
 * are compared, so that both are known to have done the same work.
 */
import { join } from 'node:path';
import { Command } from 'commander';
import type { JobFileOnDisk } from '../shared/job_file.js';
import { type CleanUp, runBenchmark } from './clean_up.js';
import { figuresOf, short } from './figures.js';
import { FORMATS, type Format } from './formats.js';
import { describe, loadNow, thisMachine } from './machine.js';
import { checkCanMake, NETS, type Net } from './nets.js';
import { wholeNumber, wordOf, wordsOf } from './options.js';
import { torchVersion } from './python.js';
import { writeReport } from './report_file.js';
import { type DdpRun, trainDdp } from './train_ddp.js';
import { openGround, type TrainGround } from './train_ground.js';
import { trainLockstep } from './train_lockstep.js';
import { lineOf, type Measured, nameOf, type TrainReport, tableOf } from './train_report.js';
import {
  batchOf,
  DDP_TYPES,
  MODELS,
  type ModelName,
  measuredSteps,
  type TrainRun,
  type TrainSetup,
  writeJob,
  writePlan,
} from './train_setup.js';

const START_MS = 120_000;
/** Far more than a step takes on any of the nets. */
const LONGEST_STEP_MS = 30_000;
/** Between the losses of the last step: orders of addition and formats differ. */
const LOSS_TOLERANCE = 0.05;

interface Options {
  readonly nets: readonly Net[];
  readonly models: readonly ModelName[];
  readonly formats: readonly Format[];
  readonly workers: number;
  readonly pairs: number;
  readonly steps: number | undefined;
  readonly warmUp: number;
  readonly ddpType: TrainSetup['ddpType'];
  readonly json: string | undefined;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function parseOptions(): Options {
  const netsText = `of ${NETS.join(', ')}; all but the first two need root`;
  const stepsText = 'measured in a run; by default 200 of the small and 30 of the large model';
  return new Command('bench:train')
    .option('--nets <list>', netsText, wordsOf(NETS), ['loopback'])
    .option('--models <list>', `of ${MODELS.join(', ')}`, wordsOf(MODELS), MODELS)
    .option('--formats <list>', `of ${FORMATS.join(', ')}: what Lockstep exchanges`, wordsOf(FORMATS), ['fp32'])
    .option('--workers <n>', 'and ranks', wholeNumber(2, 16), 2)
    .option('--pairs <n>', 'runs of each peer', wholeNumber(1, 100), 5)
    .option('--steps <n>', stepsText, wholeNumber(1, 10_000))
    .option('--warm-up <n>', 'steps before those', wholeNumber(1, 1000), 5)
    .option('--ddp-type <type>', `${DDP_TYPES.join(' or ')}: what DDP exchanges`, wordOf(DDP_TYPES), 'float32')
    .option('--json <file>', 'write the figures there')
    .parse()
    .opts();
}

function compareLosses(ours: TrainRun, theirs: TrainRun): void {
  if (Math.abs(ours.loss - theirs.loss) <= LOSS_TOLERANCE * Math.abs(theirs.loss)) return;
  throw new Error(`the two did not train the same: loss ${ours.loss} under Lockstep, ${theirs.loss} under DDP`);
}

class TrainBenchmark {
  readonly #rows: Measured[] = [];
  readonly #began = new Date().toISOString();
  readonly #machine = thisMachine();
  readonly #torch = torchVersion();

  constructor(
    private readonly options: Options,
    private readonly cleanUp: CleanUp,
  ) {}

  async run(): Promise<void> {
    checkCanMake(this.options.nets);
    // Both sides train on processors.
    process.env['CUDA_VISIBLE_DEVICES'] = '';
    say(`${describe(this.#machine)}; PyTorch ${this.#torch}`);
    for (const net of this.options.nets) await this.#measureNet(net);
    this.#print();
    if (this.options.json === undefined) say(JSON.stringify(this.#report()));
  }

  async #measureNet(net: Net): Promise<void> {
    const opening = openGround(net, this.options.workers);
    // Also when it is interrupted while it opens.
    const stop = this.cleanUp.add(async () => {
      const ground = await opening.catch(() => undefined);
      await ground?.cluster.stop();
    });
    try {
      const ground = await opening;
      for (const setup of this.#setups()) await this.#measure(net, setup, ground);
    } finally {
      await stop();
    }
  }

  #setups(): readonly TrainSetup[] {
    const { models, formats, workers, warmUp, steps, ddpType } = this.options;
    return models.flatMap((model) => formats.map((format) => ({ model, workers, format, warmUp, steps, ddpType })));
  }

  async #measure(net: Net, setup: TrainSetup, ground: TrainGround): Promise<void> {
    const { model, format, workers, ddpType: peerType } = setup;
    const cell = { net, workers, model, format, peerType };
    const job = writeJob(join(ground.cluster.folder, `${model}-${format}`), setup);
    say(`${nameOf(cell)}:`);
    const loadBefore = loadNow();
    const pairs = await this.#runPairs(job, setup, ground);
    const lockstep = figuresOf(pairs.map(([ours]) => ours.stepsPerSecond));
    const ddp = figuresOf(pairs.map(([, theirs]) => theirs.stepsPerSecond));
    this.#add({
      ...cell,
      parameters: pairs[0]?.[1].parameters ?? 0,
      batch: batchOf(setup),
      steps: measuredSteps(setup),
      lockstep,
      ddp,
      ratio: lockstep.median / ddp.median,
      lossLockstep: pairs[0]?.[0].loss ?? Number.NaN,
      lossDdp: pairs[0]?.[1].loss ?? Number.NaN,
      loadBefore,
      loadAfter: loadNow(),
    });
  }

  async #runPairs(
    job: JobFileOnDisk,
    setup: TrainSetup,
    { cluster, places }: TrainGround,
  ): Promise<readonly (readonly [TrainRun, DdpRun])[]> {
    const plan = join(job.bundle, 'plan.json');
    writePlan(plan, job, setup);
    const limitMs = START_MS + (setup.warmUp + measuredSteps(setup)) * LONGEST_STEP_MS;
    const pairs: (readonly [TrainRun, DdpRun])[] = [];
    while (pairs.length < this.options.pairs) {
      const ours = await trainLockstep(cluster, job, setup, limitMs);
      const theirs = await trainDdp(places, plan, setup, { cleanUp: this.cleanUp, limitMs });
      compareLosses(ours, theirs);
      pairs.push([ours, theirs]);
      say(`  Lockstep ${short(ours.stepsPerSecond)}, DDP ${short(theirs.stepsPerSecond)} steps/s`);
    }
    return pairs;
  }

  #add(row: Measured): void {
    this.#rows.push(row);
    say(lineOf(row));
    // After each row, so that an interrupted run leaves what it has measured.
    writeReport(this.options.json, this.#report());
  }

  #report(): TrainReport {
    return {
      benchmark: 'train',
      peer: 'DDP with Gloo',
      machine: this.#machine,
      torch: this.#torch,
      began: this.#began,
      pairs: this.options.pairs,
      warmUp: this.options.warmUp,
      rows: this.#rows,
    };
  }

  #print(): void {
    const { pairs, warmUp } = this.options;
    say(
      `\nSteps a second after ${warmUp} steps of warm-up: median (least - most) of ${pairs} runs each, in turn; one thread a worker. ` +
        `Above 1 Lockstep is the faster one.\n${tableOf(this.#report())}`,
    );
    say(describe(this.#machine));
  }
}

await runBenchmark((cleanUp) => new TrainBenchmark(parseOptions(), cleanUp).run());
