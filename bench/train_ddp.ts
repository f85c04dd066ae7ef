/** One run of bench:train under torch.distributed.run, DistributedDataParallel and Gloo. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { repository } from '../test/faults/repository.js';
import type { CleanUp } from './clean_up.js';
import { HERE, type Place } from './nets.js';
import { chosenPython } from './python.js';
import { runOf, type TrainRun, type TrainSetup } from './train_setup.js';

const MASTER_PORT = 29_500;
const STDERR_KEPT = 4000;
const GRACE_MS = 5000;
const peers = join(repository, 'bench/peers');

export interface DdpRun extends TrainRun {
  readonly parameters: number;
}

type Launcher = ChildProcessByStdio<null, Readable, Readable>;

function launch(place: Place, flags: readonly string[], plan: string): Launcher {
  const command = [chosenPython(), join(peers, 'torchrun_launcher.py'), ...flags, join(peers, 'ddp_train.py'), plan];
  return spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...place.prefix, ...command], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      GLOO_SOCKET_IFNAME: place.device,
      // As for an engine; the BLAS reads these before PyTorch does.
      OMP_NUM_THREADS: '1',
      OPENBLAS_NUM_THREADS: '1',
      MKL_NUM_THREADS: '1',
      PYTHONDONTWRITEBYTECODE: '1',
    },
  });
}

/** One launcher for all ranks of this host, or one for each host. */
function launchAll(places: readonly Place[], plan: string): readonly Launcher[] {
  if (places[0] === HERE) return [launch(HERE, ['--standalone', '--nproc_per_node', String(places.length)], plan)];
  const master = ['--master_addr', places[0]?.address ?? '', '--master_port', String(MASTER_PORT)];
  return places.map((place, rank) => {
    const node = ['--nnodes', String(places.length), '--node_rank', String(rank), '--nproc_per_node', '1'];
    return launch(place, [...node, ...master], plan);
  });
}

/** SIGTERM first: newer launchers give each rank a session of its own, and end them themselves. */
async function end(launcher: Launcher): Promise<void> {
  const { pid } = launcher;
  if (pid === undefined || launcher.exitCode !== null || launcher.signalCode !== null) return;
  const exited = once(launcher, 'exit');
  process.kill(-pid, 'SIGTERM');
  const gone = await Promise.race([exited.then(() => true), delay(GRACE_MS, false, { ref: false })]);
  if (gone) return;
  process.kill(-pid, 'SIGKILL');
  await exited;
}

class Output {
  readonly timesMs: number[] = [];
  parameters = 0;
  loss = Number.NaN;
  stderr = '';

  listen(launcher: Launcher, onLoss: () => void): void {
    createInterface({ input: launcher.stdout }).on('line', (line) => {
      const [what, first, second] = line.split(' ');
      if (what === 'parameters') this.parameters = Number(first);
      if (what === 'step') this.timesMs.push(Number(second) * 1000);
      if (what !== 'loss') return;
      this.loss = Number(first);
      onLoss();
    });
    launcher.stderr.on('data', (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(-STDERR_KEPT);
    });
  }
}

/**
 * Resolves with the loss, which is the last that is printed. The ends of the processes are not waited for: a rank may hang in its exit
 * when another one is gone.
 */
function untilLoss(launchers: readonly Launcher[], output: Output, limitMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`torchrun did not end within ${limitMs / 1000} s`)), limitMs);
    const over = (act: () => void): void => {
      clearTimeout(late);
      act();
    };
    for (const launcher of launchers) {
      output.listen(launcher, () => over(resolve));
      launcher.once('error', (error) => over(() => reject(error)));
      launcher.once('close', (code, signal) => {
        // The loss is printed by another launcher's rank, and may not have been read yet.
        if (code === 0) return;
        over(() => reject(new Error(`torchrun ended with ${signal ?? `status ${code}`}:\n${output.stderr}`)));
      });
    }
  });
}

export async function trainDdp(
  places: readonly Place[],
  plan: string,
  setup: TrainSetup,
  limits: { readonly cleanUp: CleanUp; readonly limitMs: number },
): Promise<DdpRun> {
  const launchers = launchAll(places, plan);
  const endAll = limits.cleanUp.add(async () => void (await Promise.all(launchers.map(end))));
  const output = new Output();
  try {
    await untilLoss(launchers, output, limits.limitMs);
  } finally {
    await endAll();
  }
  return { ...runOf(output.timesMs, output.loss, setup), parameters: output.parameters };
}
