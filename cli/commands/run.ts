/** `lockstep run`: a cluster, one job, its course, and the end of both. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { nanoid } from 'nanoid';
import { readJobFile } from '../../shared/job_file.js';
import { validateJobSpec } from '../../shared/job_spec.js';
import type { JobSpec } from '../../shared/wire/jobs.js';
import { type Context, outputFor } from '../context.js';
import { CliError, type ExitCode, exitCodeOfJob, exitCodes } from '../exit_codes.js';
import { followJob } from '../follow.js';
import { type CodeOptions, codeOf, type JobCode, submitWithCode } from '../job_code.js';
import { JobsClient } from '../jobs_client.js';
import { LocalCluster } from '../local_cluster.js';
import { type ChangeOptions, changesIn, type JsonOption, type TimeoutOption, withinSeconds } from '../options.js';
import { newRunFolder } from '../run_folder.js';
import { exitText } from './up.js';

/** On a machine with too much to do, the coordinator of the cluster that has just started may have to be elected anew. */
const REQUEST_MS = 60_000;

export interface RunOptions extends JsonOption, TimeoutOption, CodeOptions, ChangeOptions {
  readonly workers: number;
  readonly coordinators: number;
  readonly separateHosts?: boolean;
  readonly tls?: boolean;
  readonly steps?: number;
  readonly initFrom?: string;
  readonly dir?: string;
}

export async function run(context: Context, file: string, options: RunOptions): Promise<ExitCode> {
  const job = readJobFile(file, changesIn(options));
  const spec = withInitFrom(withSteps(job.spec, options.steps), options.initFrom);
  if (options.workers < spec.workersMin) {
    throw new CliError(
      exitCodes.usage,
      `--workers ${options.workers}: the job needs ${spec.workersMin} at least (workers.min in ${file})`,
    );
  }
  const code = await codeOf(file, job, options);
  const folder = resolve(options.dir ?? newRunFolder(spec.name, new Date()));
  if (existsSync(join(folder, 'etcd'))) {
    throw new CliError(exitCodes.usage, `--dir ${folder}: a cluster has run there already; name another folder`);
  }
  return withinSeconds(context, options.timeout, (signal) => runIn(context, { folder, spec, code, options, signal }));
}

export function withSteps(spec: JobSpec, steps: number | undefined): JobSpec {
  if (steps === undefined) return spec;
  const changed = { ...spec, steps, epochs: undefined };
  const problem = validateJobSpec(changed);
  if (problem !== undefined) throw new CliError(exitCodes.usage, `--steps: ${problem.problem}`);
  return changed;
}

export function withInitFrom(spec: JobSpec, initFrom: string | undefined): JobSpec {
  return initFrom === undefined ? spec : { ...spec, initFrom: resolve(initFrom) };
}

interface Run {
  readonly folder: string;
  readonly spec: JobSpec;
  readonly code: JobCode;
  readonly options: RunOptions;
  readonly signal: AbortSignal;
}

async function runIn(context: Context, { folder, spec, code, options, signal }: Run): Promise<ExitCode> {
  const output = outputFor(context, options.json === true);
  const cluster = new LocalCluster({
    folder,
    workers: options.workers,
    coordinators: options.coordinators,
    separateHosts: options.separateHosts === true,
    tls: options.tls === true,
    repository: context.repository,
    python: context.python,
    environment: context.environment,
    onExit: (exit) => output.note(exitText(exit)),
  });
  context.onKill(() => cluster.kill());
  try {
    output.note(`starting a cluster in ${folder}`);
    output.ready(await cluster.start(signal));
    const client = new JobsClient({
      servers: cluster.servers,
      signal,
      requestMs: REQUEST_MS,
      credentials: cluster.credentials,
    });
    try {
      const job = await submitWithCode(client, code, {
        operationId: nanoid(),
        spec,
        output: join(folder, 'model'),
        checkpoints: join(folder, 'checkpoints'),
      });
      const end = await followJob({ client, job, fromSequence: 1, output });
      return exitCodeOfJob(end.state);
    } finally {
      client.close();
    }
  } finally {
    output.close();
    await cluster.stop();
  }
}
