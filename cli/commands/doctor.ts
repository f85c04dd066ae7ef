/** `lockstep doctor`: whether this machine could be a worker, or could submit jobs. */
import { tmpdir } from 'node:os';
import { DEFAULT_ETCD_PREFIX } from '../../shared/config.js';
import { credentialFilesAtRest } from '../../shared/identity/check_credentials.js';
import { type Credentials, readCredentials } from '../../shared/identity/credential_files.js';
import { described } from '../../shared/identity/identity.js';
import { printable } from '../../shared/text/printable.js';
import { readWorkerConfig, type WorkerConfig } from '../../worker/config.js';
import { passedOn } from '../../worker/io/engine_environment.js';
import { countGpus } from '../../worker/io/machine.js';
import type { Context } from '../context.js';
import { checkCoordinator, checkEtcd, checkPeers } from '../doctor/cluster.js';
import { checkEngine } from '../doctor/engine.js';
import { type Finding, fail, ok, reasonOf } from '../doctor/finding.js';
import { checkDisk, checkMemory, checkNode, checkOpenFiles, checkPort, checkSharedMemory } from '../doctor/machine.js';
import { type ExitCode, exitCodes } from '../exit_codes.js';
import { credentialsIn, type JsonOption, type ServerOption, withClient } from '../options.js';

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
  else if (options.etcd !== undefined) {
    yield checkEtcd([options.etcd], DEFAULT_ETCD_PREFIX, credentialsIn(options.tlsDir ?? context.tlsFolder));
  }
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
  const { environment, signal } = context;
  yield* await checkEngine({
    python: config?.python ?? context.python,
    gpu: config?.gpu ?? 0,
    offersGpu: (config?.gpus ?? countGpus()) > 0,
    environment: passedOn(environment),
    signal,
  });
  yield checkDisk(config?.codeDir ?? tmpdir());
  if (config !== undefined) yield checkPort(config.listen);
  const etcd = config?.etcd ?? { endpoints: [], prefix: DEFAULT_ETCD_PREFIX };
  const endpoints = options.etcd === undefined ? etcd.endpoints : [options.etcd];
  const { finding, credentials } = certificatesOf(config, options);
  if (finding !== undefined) yield finding;
  if (endpoints.length === 0) return;
  const shown = credentials ?? credentialsIn(options.tlsDir ?? context.tlsFolder);
  yield checkEtcd(endpoints, etcd.prefix, shown);
  const peerAddress = config?.advertise ?? config?.listen ?? ':0';
  const self = { worker: config?.name ?? '', peerAddress, credentials: shown };
  yield* await checkPeers({ endpoints, prefix: etcd.prefix }, self, signal);
}

interface Certificates {
  readonly finding?: Finding;
  readonly credentials?: Credentials;
}

/** Those that the configuration names. */
function certificatesOf(config: WorkerConfig | undefined, options: DoctorOptions): Certificates {
  if (config?.tls === undefined || options.config === undefined) return {};
  try {
    const files = credentialFilesAtRest(config.tls, 'worker', options.config);
    const credentials = readCredentials(files, { role: 'worker', name: config.name });
    const until = new Date(credentials.expiresMs).toISOString();
    return { finding: ok('certificate', `${described(credentials.identity)}, until ${until}`), credentials };
  } catch (error) {
    return { finding: fail('certificate', reasonOf(error), 'make or renew it: lockstep certs --help') };
  }
}

function lineOf({ check, status, found, advice }: Finding): string {
  const todo = advice === '' ? '' : `; ${advice}`;
  return printable(`${status.padEnd(4)}  ${check.padEnd(13)}  ${found}${todo}`);
}
