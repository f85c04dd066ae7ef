/** The coordinator daemon. */
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Server } from '@grpc/grpc-js';
import { hostOf } from '../shared/address.js';
import { ConfigError, EXIT_BAD_CONFIG } from '../shared/config.js';
import { dieWithParent } from '../shared/die_with_parent.js';
import { connectEtcd, type EtcdClient } from '../shared/etcd/client.js';
import { coordinatorKey, leaderKey } from '../shared/etcd/keys.js';
import { type Leader, watchLeader } from '../shared/etcd/leader_watch.js';
import { register } from '../shared/etcd/registration.js';
import { checkCredentials } from '../shared/identity/check_credentials.js';
import { credentialFilesIn } from '../shared/identity/credential_files.js';
import { serverCredentials } from '../shared/identity/grpc_credentials.js';
import { credentialsFolder, openCredentials, type Place } from '../shared/identity/open_credentials.js';
import { createLogger } from '../shared/logger.js';
import { daemonArguments, rightText } from '../shared/service/daemon_arguments.js';
import { askForTime } from '../shared/service/drain.js';
import { readyWhen } from '../shared/service/ready.js';
import { serviceManager } from '../shared/service/service_manager.js';
import { startWatchdog } from '../shared/service/watchdog.js';
import { BundlesClient, JobsClient, TokensClient } from '../shared/wire/services.js';
import { type CoordinatorConfig, readCoordinatorConfig } from './config.js';
import { bundlesInUse } from './core/bundles_in_use.js';
import { DEFAULT_SETTINGS, initialState } from './core/state.js';
import { coordinatorHealth } from './health.js';
import { AuditLog } from './io/audit_log.js';
import { checkAuthorityKey } from './io/authority_key.js';
import { BundleKeeper } from './io/bundle_keeper.js';
import { BundleStore } from './io/bundle_store.js';
import { BundlesService } from './io/bundles_service.js';
import { Driver } from './io/driver.js';
import { type Election, startElection } from './io/election.js';
import { GRPC_SERVER_OPTIONS, type GrpcPort, listenForGrpc } from './io/grpc_port.js';
import { guarded } from './io/guard.js';
import { JobsService } from './io/jobs_service.js';
import { JoinTokens } from './io/join_tokens.js';
import { type Joining, startJoining } from './io/joining.js';
import { RequestAnswers } from './io/request_answers.js';
import { SessionService } from './io/session_service.js';
import { sessionService } from './io/session_wire.js';
import { Store } from './io/store.js';
import { TokensService } from './io/tokens_service.js';
import { Dashboard, type DashboardOptions } from './web/dashboard.js';
import { checkTokensFile } from './web/tokens_file.js';

const ETCD_CALL_TIMEOUT_MS = 2_000;
const CLOSE_MS = 2_000;
/** When everything is told to stop, the workers say so within the first of these times; their states are saved within the second. */
const HEAR_LEAVERS_MS = 250;
const SAVE_MS = 60_000;
const LOOK_MS = 50;
const ANY_ADDRESS = ['0.0.0.0', '[::]'];
const PAGES = fileURLToPath(new URL('../dashboard', import.meta.url));

/** Leadership is kept while workers that leave, too, need it to save their state. */
async function untilSaved(driver: Driver, isAbandoned: () => boolean): Promise<void> {
  const startMs = performance.now();
  for (;;) {
    const waitedMs = performance.now() - startMs;
    if (driver.state.leading === undefined || waitedMs > SAVE_MS || isAbandoned()) return;
    if (waitedMs > HEAR_LEAVERS_MS && !driver.workersLeave) return;
    await delay(LOOK_MS);
  }
}

async function etcdAnswers(client: EtcdClient): Promise<boolean> {
  try {
    await client.get(leaderKey);
    return true;
  } catch {
    return false;
  }
}

function advertised(config: CoordinatorConfig, port: number): string {
  return config.advertise ?? `${hostOf(config.listen)}:${port}`;
}

/** Of a port on all addresses, the one by which others reach this coordinator. */
function joinAddress({ joinListen = '', advertise = joinListen }: CoordinatorConfig, { port }: Joining): string {
  const host = hostOf(joinListen);
  return `${ANY_ADDRESS.includes(host) ? hostOf(advertise) : host}:${port}`;
}

function openAuditLog({ name, auditLog }: CoordinatorConfig): AuditLog {
  try {
    return new AuditLog(name, auditLog);
  } catch (error) {
    throw new ConfigError(`audit_log: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Training does not depend on it: without its port, or its files, a coordinator goes on without. */
async function startDashboard(
  { dashboard: config }: CoordinatorConfig,
  options: Omit<DashboardOptions, 'config'>,
): Promise<Dashboard | undefined> {
  if (config === undefined) return undefined;
  try {
    return await Dashboard.start({ ...options, config });
  } catch (error) {
    options.log.error('no dashboard', { listen: config.listen, error: String(error) });
    return undefined;
  }
}

async function run(config: CoordinatorConfig, place: Place, isAbandoned: () => boolean): Promise<void> {
  const log = createLogger('coordinator', config.name, config.log.level);
  const credentials = openCredentials(config, 'coordinator', place, log);
  const audit = openAuditLog(config);
  const manager = serviceManager(process.env);
  const client = connectEtcd({
    endpoints: config.etcd.endpoints,
    prefix: `${config.etcd.prefix}/`,
    callTimeoutMs: ETCD_CALL_TIMEOUT_MS,
    credentials,
  });
  let leader: Leader | undefined;
  let election: Election | undefined;
  const leaderAddress = () => leader?.address;
  const driver = new Driver({
    state: initialState({
      ...DEFAULT_SETTINGS,
      name: config.name,
      scheduling: config.scheduling,
      pricePerWorkerHour: config.pricePerWorkerHour,
    }),
    store: new Store({ client, log }),
    term: () => election?.term(),
    stepDown: (reason) => election?.stepDown(reason),
    log,
  });
  const bundleStore = new BundleStore(client);
  const keeper = new BundleKeeper({
    store: bundleStore,
    inUse: () => bundlesInUse(driver.state),
    term: () => election?.term(),
    log,
  });
  let grpc: GrpcPort | undefined;
  const drop = (peer: string) => grpc?.drop(peer);
  const sessions = new SessionService(driver, leaderAddress, log, audit, drop);
  const jobs = new JobsService(driver, leaderAddress, keeper, drop);
  const bundles = new BundlesService({
    keeper,
    store: bundleStore,
    leads: () => driver.state.leading !== undefined,
    leader: leaderAddress,
    log,
  });
  const dashboard = await startDashboard(config, {
    name: config.name,
    pages: PAGES,
    state: driver.state,
    dispatch: (event) => driver.dispatch(event),
    audit,
    leader: () => (leader === undefined ? null : { name: leader.name, dashboard: leader.dashboard ?? null }),
    etcdAnswers: () => etcdAnswers(client),
    log,
  });
  driver.connect(sessions, dashboard === undefined ? jobs : new RequestAnswers([jobs, dashboard]));

  const server = new Server(GRPC_SERVER_OPTIONS);
  const tokens = new JoinTokens(client);
  const { tls, joinListen } = config;
  let joining: Joining | undefined;
  if (credentials !== undefined && tls?.caKey !== undefined && joinListen !== undefined) {
    const { key: caKey } = credentialFilesIn({ ...tls, key: tls.caKey }, credentialsFolder(place));
    joining = await startJoining({ credentials, caKey, address: joinListen, tokens, audit, log });
  }
  const tokensService = new TokensService({
    tokens,
    joining: () => joining && { authority: joining.fingerprint(), address: joinAddress(config, joining) },
  });
  const guard = { secured: credentials !== undefined, audit };
  server.addService(sessionService, guarded(sessionService, sessions.implementation, guard));
  server.addService(JobsClient.service, guarded(JobsClient.service, jobs.implementation, guard));
  server.addService(BundlesClient.service, guarded(BundlesClient.service, bundles.implementation, guard));
  server.addService(TokensClient.service, guarded(TokensClient.service, tokensService.implementation, guard));
  grpc = await listenForGrpc(server, config.listen, serverCredentials(credentials));
  const address = advertised(config, grpc.port);

  const leaderWatch = watchLeader({
    client,
    log,
    onLeader: (now) => {
      leader = now;
    },
  });
  election = startElection({
    client,
    name: config.name,
    address,
    dashboard: dashboard?.url,
    ttlSeconds: config.leaseTtlSeconds,
    onElected: (term) => {
      keeper.lead(term).then(
        () => driver.lead(term),
        (error) => election?.stepDown(`the archives of code cannot be listed: ${String(error)}`),
      );
    },
    onDeposed: () => {
      driver.dispatch({ kind: 'deposed' });
      jobs.deposed();
    },
    log,
  });
  const registration = register({
    client,
    key: coordinatorKey(config.name),
    value: JSON.stringify({
      name: config.name,
      address,
      dashboard: dashboard?.url,
      pid: process.pid,
      host: hostname(),
    }),
    ttlSeconds: config.leaseTtlSeconds,
    onLost: (reason) => log.warn('registration lost', { reason }),
    log,
  });
  log.info('listening', { address, dashboard: dashboard?.url, pid: process.pid });
  const leads = () => driver.state.leading !== undefined;
  startWatchdog({ manager, problem: coordinatorHealth({ election, leaderWatch, leads }), log });
  readyWhen(registration.registered, manager, `coordinator ${config.name} at ${address}`);

  let stopping = false;
  const stop = async (signal: string) => {
    if (stopping) return;
    stopping = true;
    log.info('stopping', { signal });
    askForTime(manager, 'waits for workers that save the state of their jobs');
    await untilSaved(driver, isAbandoned);
    setTimeout(() => process.exit(0), CLOSE_MS).unref();
    leaderWatch.close();
    await Promise.allSettled([election?.resign(), registration.close()]);
    driver.close();
    keeper.close();
    dashboard?.close();
    grpc?.close();
    server.forceShutdown();
    joining?.close();
    client.close();
    await audit.close();
    process.exit(0);
  };
  // Not once: the kernel can send several when the launcher dies, and without a handler the second would kill.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(signal));
}

try {
  const { config: path, checkOnly } = daemonArguments('coordinator', process.argv.slice(2));
  const config = readCoordinatorConfig(path);
  const place = { configPath: path, credentialsDirectory: process.env['CREDENTIALS_DIRECTORY'] };
  if (checkOnly) {
    const unseen = checkCredentials(config, 'coordinator', place) ?? checkAuthorityKey(config.tls, place);
    process.stdout.write(rightText(path, { certificates: unseen, tokens: await checkTokensFile(config, path) }));
  } else await run(config, place, config.dieWithParent ? dieWithParent() : () => false);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof ConfigError ? EXIT_BAD_CONFIG : 1);
}
