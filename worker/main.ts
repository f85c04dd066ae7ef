/** The worker daemon. */
import { createHash } from 'node:crypto';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nanoid } from 'nanoid';
import { s3FromEnvironment } from '../shared/checkpoint/s3_environment.js';
import { ConfigError, EXIT_BAD_CONFIG } from '../shared/config.js';
import { dieWithParent } from '../shared/die_with_parent.js';
import { connectEtcd } from '../shared/etcd/client.js';
import { workerKey } from '../shared/etcd/keys.js';
import { type Leader, watchLeader } from '../shared/etcd/leader_watch.js';
import { register } from '../shared/etcd/registration.js';
import { openCredentials, type Place } from '../shared/identity/open_credentials.js';
import { createLogger } from '../shared/logger.js';
import { startCheckpointThread } from './checkpoint/start_checkpoint_thread.js';
import { startDataPlane } from './collective/start_data_plane.js';
import { readWorkerConfig, type WorkerConfig } from './config.js';
import type { WorkerEvent } from './core/event.js';
import { initialState } from './core/state.js';
import { fetchBundle } from './io/bundle_fetch.js';
import { CodeFolders } from './io/code_folders.js';
import { Driver } from './io/driver.js';
import { passedOn } from './io/engine_environment.js';
import { JobCode } from './io/job_code.js';
import { machineOf } from './io/machine.js';
import { measure } from './io/preflight.js';
import { findPython, NoPyTorchError } from './io/python.js';
import { SessionClient } from './io/session_client.js';

const ETCD_CALL_TIMEOUT_MS = 2_000;
/** Time for the others to go on without this worker; past it, it goes anyway, unless a state is being saved that only it may have. */
const DRAIN_MS = 5_000;
const SAVE_MS = 60_000;
const LOOK_MS = 100;
const CLOSE_MS = 3_000;

function configPath(args: readonly string[]): string {
  const [flag, path] = args;
  if (flag !== '--config' || path === undefined) throw new ConfigError('usage: lockstep-worker --config FILE');
  return path;
}

/** systemd names a folder that is made for this daemon and removed with it. */
function codeFolder({ codeDir, etcd, name }: WorkerConfig): string {
  const runtime = process.env['RUNTIME_DIRECTORY']?.split(':')[0];
  if (codeDir !== undefined) return codeDir;
  if (runtime !== undefined) return join(runtime, 'code');
  // Several workers, of other clusters and users too, may run on this machine.
  const cluster = createHash('sha256')
    .update(JSON.stringify([etcd.endpoints, etcd.prefix]))
    .digest('hex');
  return join(tmpdir(), `lockstep-${process.getuid?.() ?? 0}-${name}-${cluster.slice(0, 12)}`);
}

async function run(config: WorkerConfig, place: Place, isAbandoned: () => boolean): Promise<void> {
  let driver: Driver | undefined;
  const context = () => ({ worker: config.name, ...driver?.jobContext });
  const log = createLogger('worker', config.name, config.log.level, context);
  const credentials = openCredentials(config, 'worker', place, log);
  const python = await findPython(config.python ?? process.env['LOCKSTEP_PYTHON']);
  const incarnation = nanoid();
  const colon = config.listen.lastIndexOf(':');
  const host = config.listen.slice(0, colon);
  const dispatch = (event: WorkerEvent) => driver?.dispatch(event);
  const dataPlane = await startDataPlane({
    host,
    port: Number(config.listen.slice(colon + 1)),
    worker: config.name,
    incarnation,
    sameHost: config.sameHost,
    credentials,
    onEvent: (event) => {
      if (event.kind !== 'listening') dispatch({ kind: 'data_plane_event', event });
    },
    log: (level, line) => log[level](line),
  });
  const checkpoints = startCheckpointThread({
    s3: s3FromEnvironment(process.env),
    onEvent: (event) => dispatch({ kind: 'checkpoint_event', event }),
    log: (level, line) => log[level](line),
  });
  const peerAddress = config.advertise ?? `${host}:${dataPlane.port}`;
  const machine = machineOf(config);
  const measures = config.preflight;
  const self = { worker: config.name, incarnation, peerAddress };
  const identity = { ...self, host: hostname(), pid: process.pid, machine, measures };
  let leader: Leader | undefined;
  const folder = codeFolder(config);
  const code = new JobCode({
    folders: new CodeFolders(folder),
    fetch: (sha256, signal) => fetchBundle(sha256, () => leader, signal, credentials),
    log,
  });
  let onExit: () => void = () => undefined;
  const engine = { python, gpu: config.gpu, environment: passedOn(process.env) };
  driver = new Driver({
    state: initialState(identity),
    ...engine,
    dataPlane,
    checkpoints,
    code,
    measure: (request) => measure({ ...engine, ...self, folder, credentials: () => credentials?.current }, request),
    onExit: () => onExit(),
    log,
  });
  const session = new SessionClient(
    {
      onOpened: () => dispatch({ kind: 'session_opened' }),
      onMessage: (message) => dispatch({ kind: 'coordinator_message', message }),
      onClosed: () => dispatch({ kind: 'session_closed' }),
    },
    log,
    credentials,
  );
  driver.connect(session);

  const client = connectEtcd({
    endpoints: config.etcd.endpoints,
    prefix: `${config.etcd.prefix}/`,
    callTimeoutMs: ETCD_CALL_TIMEOUT_MS,
    credentials,
  });
  const leaderWatch = watchLeader({
    client,
    log,
    onLeader: (now) => {
      leader = now;
      session.follow(now);
    },
  });
  const registration = register({
    client,
    key: workerKey(config.name),
    value: JSON.stringify({
      name: config.name,
      address: peerAddress,
      pid: process.pid,
      host: identity.host,
      incarnation,
    }),
    ttlSeconds: config.leaseTtlSeconds,
    onLost: (reason) => log.warn('registration lost', { reason }),
    log,
  });
  log.info('listening', { address: peerAddress, pid: process.pid, python });

  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(0), CLOSE_MS).unref();
    leaderWatch.close();
    session.close();
    await Promise.allSettled([driver.close(), registration.close(), dataPlane.close(), checkpoints.close()]);
    client.close();
    process.exit(0);
  };
  onExit = () => void stop();
  const stopWhenSaved = async () => {
    const startMs = performance.now();
    for (let waitedMs = 0; waitedMs < SAVE_MS; waitedMs = performance.now() - startMs) {
      // Without the launcher the coordinators go, too: there is nobody to hand over to.
      if (isAbandoned() || (waitedMs > DRAIN_MS && driver?.isSaving !== true)) break;
      await delay(LOOK_MS);
    }
    await stop();
  };
  let leaving = false;
  const drain = (signal: string) => {
    if (leaving) return;
    leaving = true;
    log.info('leaving', { signal });
    dispatch({ kind: 'stop_requested' });
    void stopWhenSaved();
  };
  // Not once: the kernel can send several when the launcher dies, and without a handler the second would kill.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => drain(signal));
}

try {
  const path = configPath(process.argv.slice(2));
  const config = readWorkerConfig(path);
  const place = { configPath: path, credentialsDirectory: process.env['CREDENTIALS_DIRECTORY'] };
  await run(config, place, config.dieWithParent ? dieWithParent() : () => false);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof ConfigError || error instanceof NoPyTorchError ? EXIT_BAD_CONFIG : 1);
}
