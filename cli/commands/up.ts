/** `lockstep up`: a local cluster until Ctrl-C. */
import { once } from 'node:events';
import { type Context, outputFor } from '../context.js';
import { type ExitCode, exitCodes } from '../exit_codes.js';
import { LocalCluster } from '../local_cluster.js';
import type { JsonOption } from '../options.js';
import { newRunFolder } from '../run_folder.js';
import type { ProcessExit } from '../supervised_process.js';

export interface UpOptions extends JsonOption {
  readonly workers: number;
  readonly coordinators: number;
  readonly separateHosts?: boolean;
  readonly preflight?: boolean;
  readonly tls?: boolean;
  readonly dir?: string;
}

export async function up(context: Context, options: UpOptions): Promise<ExitCode> {
  const folder = options.dir ?? newRunFolder('cluster', new Date());
  const output = outputFor(context, options.json === true);
  const cluster = new LocalCluster({
    folder,
    workers: options.workers,
    coordinators: options.coordinators,
    separateHosts: options.separateHosts === true,
    preflight: options.preflight === true,
    tls: options.tls === true,
    repository: context.repository,
    python: context.python,
    environment: context.environment,
    onExit: (exit) => {
      if (options.json) context.write(`${JSON.stringify(exitJson(exit, Date.now()))}\n`);
      else output.note(exitText(exit));
    },
  });
  context.onKill(() => cluster.kill());
  try {
    output.note(`starting a cluster in ${folder}`);
    const ready = await cluster.start(context.signal);
    output.ready(ready);
    const tls = ready.tls === undefined ? '' : ` LOCKSTEP_TLS=${ready.tls}`;
    output.note(`in another terminal: export LOCKSTEP_SERVER=${ready.api}${tls}`);
    output.note('Ctrl-C ends it');
    if (!context.signal.aborted) await once(context.signal, 'abort');
    output.note('ending the cluster');
    return exitCodes.ok;
  } finally {
    await cluster.stop();
  }
}

function exitJson(exit: ProcessExit, timeMs: number): Readonly<Record<string, unknown>> {
  const { name, pid, code, signal, givenUp } = exit;
  return { event: 'process_exited', time_ms: timeMs, name, pid, code, signal, given_up: givenUp };
}

export function exitText({ name, pid, code, signal, givenUp }: ProcessExit): string {
  const how = signal === null ? `exited with status ${code}` : `was ended by ${signal}`;
  return `${name} (pid ${pid}) ${how}; it is ${givenUp ? 'not ' : ''}started again`;
}
