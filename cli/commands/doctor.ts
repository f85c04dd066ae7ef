/** `lockstep doctor`: whether this machine could be a worker, or could submit jobs. */
import { DEFAULT_ETCD_PREFIX } from '../../shared/config.js';
import { printable } from '../../shared/text/printable.js';
import { readWorkerConfig, type WorkerConfig } from '../../worker/config.js';
import type { Context } from '../context.js';
import { checkCoordinator, checkEtcd } from '../doctor/cluster.js';
import { checkEngine } from '../doctor/engine.js';
import { type Finding, fail, reasonOf } from '../doctor/finding.js';
import { checkMemory, checkNode, checkOpenFiles, checkPort, checkSharedMemory } from '../doctor/machine.js';
import { type ExitCode, exitCodes } from '../exit_codes.js';
import { type JsonOption, type ServerOption, withClient } from '../options.js';

export interface DoctorOptions extends JsonOption, ServerOption {
  readonly for: 'worker' | 'submitter';
  /** Configuration file of a worker. */
  readonly config?: string;
  /** URL */
  readonly etcd?: string;
}

/** Ends with 1 when something has to be done. */
export async function doctor(context: Context, options: DoctorOptions): Promise<ExitCode> {
  let failed = false;
  for await (const finding of findings(context, options)) {
    failed ||= finding.status === 'fail';
    context.write(`${options.json ? JSON.stringify(finding) : lineOf(finding)}\n`);
  }
  return failed ? exitCodes.jobFailed : exitCodes.ok;
}

async function* findings(context: Context, options: DoctorOptions): AsyncGenerator<Finding> {
  yield checkNode();
  if (options.for === 'worker') yield* asWorker(context, options);
  else if (options.etcd !== undefined) yield checkEtcd([options.etcd], DEFAULT_ETCD_PREFIX);
  if ((options.server ?? context.defaultServer ?? '') === '') return;
  yield* await withClient(context, options, (client) => checkCoordinator(client));
}

async function* asWorker(context: Context, options: DoctorOptions): AsyncGenerator<Finding> {
  yield checkMemory();
  yield checkSharedMemory();
  yield checkOpenFiles();
  let config: WorkerConfig | undefined;
  try {
    config = options.config === undefined ? undefined : readWorkerConfig(options.config);
  } catch (error) {
    yield fail('configuration', reasonOf(error), 'correct the file that --config names');
  }
  yield* await checkEngine(config?.python ?? context.python);
  if (config !== undefined) yield checkPort(config.listen);
  const etcd = config?.etcd ?? { endpoints: [], prefix: DEFAULT_ETCD_PREFIX };
  const endpoints = options.etcd === undefined ? etcd.endpoints : [options.etcd];
  if (endpoints.length > 0) yield checkEtcd(endpoints, etcd.prefix);
}

function lineOf({ check, status, found, advice }: Finding): string {
  const todo = advice === '' ? '' : `; ${advice}`;
  return printable(`${status.padEnd(4)}  ${check.padEnd(13)}  ${found}${todo}`);
}
