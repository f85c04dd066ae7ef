/** The worker daemon. */
import { createHash } from 'node:crypto';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nanoid } from 'nanoid';
import { hostOf, portOf } from '../shared/address.js';
import { s3FromEnvironment } from '../shared/checkpoint/s3_environment.js';
import { ConfigError, EXIT_BAD_CONFIG } from '../shared/config.js';
import { dieWithParent } from '../shared/die_with_parent.js';
import { connectEtcd } from '../shared/etcd/client.js';
import { workerKey } from '../shared/etcd/keys.js';
import { type Leader, watchLeader } from '../shared/etcd/leader_watch.js';
import { register } from '../shared/etcd/registration.js';
import { checkCredentials } from '../shared/identity/check_credentials.js';
import { openCredentials, type Place } from '../shared/identity/open_credentials.js';
import { createLogger, type Logger } from '../shared/logger.js';
import { daemonArguments, rightText } from '../shared/service/daemon_arguments.js';
import { askForTime } from '../shared/service/drain.js';
import { readyWhen } from '../shared/service/ready.js';
import { serviceManager } from '../shared/service/service_manager.js';
import { startWatchdog } from '../shared/service/watchdog.js';
import { startCheckpointThread } from './checkpoint/start_checkpoint_thread.js';
import { startDataPlane } from './collective/start_data_plane.js';
import { readWorkerConfig, type WorkerConfig } from './config.js';
import type { WorkerEvent } from './core/event.js';
import { initialState } from './core/state.js';
import { workerHealth } from './health.js';
import { fetchBundle } from './io/bundle_fetch.js';
import { CodeFolders } from './io/code_folders.js';
import { ControlGroups, delegatedGroup } from './io/control_groups.js';
import { Driver } from './io/driver.js';
import { EngineBounds } from './io/engine_bounds.js';
import { passedOn } from './io/engine_environment.js';
import { checkLaunch } from './io/engine_launch.js';
import { JobCode } from './io/job_code.js';
import { machineOf } from './io/machine.js';
import { measure } from './io/preflight.js';
import { findPython, NoPyTorchError } from './io/python.js';
import { ScratchFolders } from './io/scratch_folders.js';
import { SessionClient } from './io/session_client.js';

const ETCD_CALL_TIMEOUT_MS = 2_000;
/** Time for the others to go on without this worker; past it, it goes anyway, unless a state is being saved that only it may have. */
const DRAIN_MS = 5_000;
const SAVE_MS = 60_000;
const LOOK_MS = 100;
const CLOSE_MS = 3_000;

/** A folder that systemd makes for this daemon. */
function serviceFolder(kind: 'RUNTIME_DIRECTORY' | 'CACHE_DIRECTORY'): string | undefined {
  return process.env[kind]?.split(':')[0];
}

/** Several workers, of other clusters and users too, may run on this machine. */
function temporaryFolder({ etcd, name }: WorkerConfig): string {
  const cluster = createHash('sha256')
    .update(JSON.stringify([etcd.endpoints, etcd.prefix]))
    .digest('hex');
  return join(tmpdir(), `lockstep-${process.getuid?.() ?? 0}-${name}-${cluster.slice(0, 12)}`);
}

function codeFolder(config: WorkerConfig): string {
  const runtime = serviceFolder('RUNTIME_DIRECTORY');
  return config.codeDir ?? (runtime === undefined ? temporaryFolder(config) : join(runtime, 'code'));
}

function scratchFolder(config: WorkerConfig): string {
  const cache = serviceFolder('CACHE_DIRECTORY');
  const own = cache === undefined ? `${temporaryFolder(config)}-scratch` : join(cache, 'scratch');
  return config.engine.scratchDir ?? own;
}

async function engineBounds(config: WorkerConfig, log: Logger): Promise<EngineBounds> {
  const { user, fileMaxBytes, memoryMaxBytes, tasksMax, scratchMaxBytes } = config.engine;
  const launch = { user, fileMaxBytes };
  const group = delegatedGroup();
  await checkLaunch(launch, group !== undefined);
  if (group === undefined) {
    log.info('no control group was handed over to this daemon: the memory and the tasks of engines are not bounded');
  }
  const scratch = new ScratchFolders({
    root: scratchFolder(config),
    launch,
    maxBytes: scratchMaxBytes,
    // A unit has this one for itself.
    alsoCleared: serviceFolder('CACHE_DIRECTORY') === undefined ? [] : ['/dev/shm'],
    log,
  });
  const groups = group === undefined ? undefined : new ControlGroups(group, { memoryMaxBytes, tasksMax }, log);
  await scratch.clear();
  return new EngineBounds({ launch, scratch, groups });
}

async function run(config: WorkerConfig, place: Place, isAbandoned: () => boolean): Promise<void> {
  let driver: Driver | undefined;
  const context = () => ({ worker: config.name, ...driver?.jobContext });
  const log = createLogger('worker', config.name, config.log.level, context);
  const manager = serviceManager(process.env);
  const credentials = openCredentials(config, 'worker', place, log);
  const python = await findPython(config.python ?? process.env['LOCKSTEP_PYTHON']);
  const incarnation = nanoid();
  const host = hostOf(config.listen);
  const dispatch = (event: WorkerEvent) => driver?.dispatch(event);
  const dataPlane = await startDataPlane({
    host,
    port: portOf(config.listen),
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
  const bounds = await engineBounds(config, log);
  const code = new JobCode({
    folders: new CodeFolders(folder, config.engine.user === undefined ? 'owner' : 'group'),
    fetch: (sha256, signal) => fetchBundle(sha256, () => leader, signal, credentials),
    log,
  });
  let onExit: () => void = () => undefined;
  const engine = { python, gpu: config.gpu, environment: passedOn(process.env) };
  const state = initialState(identity);
  const acting = new Driver({
    state,
    ...engine,
    dataPlane,
    checkpoints,
    code,
    bounds,
    measure: (request) => measure({ ...engine, ...self, folder, credentials: () => credentials?.current }, request),
    onExit: () => onExit(),
    log,
  });
  driver = acting;
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
  const hasEngine = (start: number) => acting.hasEngine(start);
  startWatchdog({ manager, problem: workerHealth({ state, hasEngine, session, leaderWatch }), log });
  readyWhen(registration.registered, manager, `worker ${config.name} at ${peerAddress}`);

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
    askForTime(manager, 'hands its work over');
    dispatch({ kind: 'stop_requested' });
    void stopWhenSaved();
  };
  // Not once: the kernel can send several when the launcher dies, and without a handler the second would kill.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => drain(signal));
}

try {
  const { config: path, checkOnly } = daemonArguments('worker', process.argv.slice(2));
  const config = readWorkerConfig(path);
  const place = { configPath: path, credentialsDirectory: process.env['CREDENTIALS_DIRECTORY'] };
  if (checkOnly) process.stdout.write(rightText(path, { certificates: checkCredentials(config, 'worker', place) }));
  else await run(config, place, config.dieWithParent ? dieWithParent() : () => false);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof ConfigError || error instanceof NoPyTorchError ? EXIT_BAD_CONFIG : 1);
}
