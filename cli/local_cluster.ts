/** A whole cluster on this machine: a real etcd, coordinators and workers, each its own process. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nanoid } from 'nanoid';
import { stringify } from 'yaml';
import { z } from 'zod';
import { connectEtcd, type EtcdClient } from '../shared/etcd/client.js';
import { EtcdFailure } from '../shared/etcd/errors.js';
import { coordinatorsFolder, workersFolder } from '../shared/etcd/keys.js';
import { type Leader, readLeader } from '../shared/etcd/leader_watch.js';
import { readMembers } from '../shared/etcd/member_watch.js';
import type { Credentials } from '../shared/identity/credential_files.js';
import { Orphans } from '../shared/orphans.js';
import { removeFolder } from '../worker/io/closed_folders.js';
import { LocalCertificates } from './certs/local_certificates.js';
import { CliError, exitCodes } from './exit_codes.js';
import type { ReadyCluster } from './output/output.js';
import { makeUnsentFolder } from './run_folder.js';
import { type ProcessExit, SupervisedProcess } from './supervised_process.js';

const PREFIX = '/lockstep';
const COORDINATOR_LEASE_SECONDS = 3;
const WORKER_LEASE_SECONDS = 10;
const ETCD_START_MS = 20_000;
const ETCD_START_TRIES = 3;
const ETCD_QUOTA_BYTES = 512 * 1024 * 1024;
const START_MS = 60_000;
const ETCD_CALL_MS = 2000;
const ETCD_LOOK_MS = 500;
/** A daemon that dies this often in a row while the cluster starts never will. */
const MAX_QUICK_EXITS = 3;
/** A worker goes after 5 s at most, or later while it saves the state of its job. */
const WORKER_GRACE_MS = 65_000;
const COORDINATOR_GRACE_MS = 3000;
const ETCD_GRACE_MS = 3000;
const ORPHANS_GRACE_MS = 2000;
/** Below Linux' range for outgoing connections, so that none of those takes a port between its choice and its use. */
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;

export interface LocalClusterOptions {
  /** Folder for data, configurations and logs. */
  readonly folder: string;
  readonly workers: number;
  readonly coordinators: number;
  /** The workers send gradients to each other as if each were on a host of its own. */
  readonly separateHosts?: boolean;
  /** The workers measure themselves before they get jobs; they share one machine, so it is off unless it is asked for. */
  readonly preflight?: boolean;
  /** Everything talks over TLS, with certificates that are made for this cluster. */
  readonly tls?: boolean;
  /** Folder that contains dist/. */
  readonly repository: string;
  /** Interpreter of the engines. */
  readonly python: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** A process of the cluster ended by itself. */
  readonly onExit?: ((exit: ProcessExit) => void) | undefined;
}

const memberValue = z.object({ address: z.string(), pid: z.number() });

export class LocalCluster {
  readonly #options: LocalClusterOptions;
  readonly #folder: string;
  /** Begins the paths of the folders for the engines' temporary files: short, as sockets in them want it, and nobody else's. */
  readonly #scratch = join(resolve(tmpdir()), `lockstep-${process.getuid?.() ?? 0}-${nanoid(12)}`);
  readonly #orphans: Orphans;
  #etcd: SupervisedProcess | undefined;
  #certificates: LocalCertificates | undefined;
  #etcdUrl = '';
  readonly #coordinators: SupervisedProcess[] = [];
  readonly #workers: SupervisedProcess[] = [];
  #servers: readonly string[] = [];
  #stopped: Promise<void> | undefined;

  constructor(options: LocalClusterOptions) {
    this.#options = options;
    this.#folder = resolve(options.folder);
    this.#orphans = new Orphans(() => new Set(this.#processes().flatMap((one) => (one.pid === 0 ? [] : one.pid))));
  }

  /** Of an administrator of the cluster, if it has certificates. */
  get credentials(): Credentials | undefined {
    return this.#certificates?.admin.current;
  }

  /** host:port of every coordinator, the leader first. They stay the same when a coordinator is started again. */
  get servers(): readonly string[] {
    return this.#servers;
  }

  /** Resolves when a coordinator leads and every daemon is registered. After a failure or an abort, stop() must still be called. */
  async start(signal: AbortSignal): Promise<ReadyCluster> {
    this.#checkBuilt();
    makeUnsentFolder(this.#folder);
    mkdirSync(join(this.#folder, 'logs'), { recursive: true });
    if (this.#options.tls === true) this.#certificates = await LocalCertificates.make(this.#folder, this.#options);
    await this.#startEtcd(signal);
    const ports = await freePorts(2 * this.#options.coordinators);
    const dashboards = ports.splice(this.#options.coordinators);
    // One by one: those that run are ended also when the next cannot be started.
    for (const [index, port] of ports.entries()) {
      const settings = {
        listen: `127.0.0.1:${port}`,
        dashboard: `127.0.0.1:${dashboards[index]}`,
        lease_ttl_seconds: COORDINATOR_LEASE_SECONDS,
        // All workers are on one machine: what makes one fail again and again is not its hardware.
        scheduling: { quarantine_after: 0 },
        die_with_parent: true,
      };
      this.#coordinators.push(this.#startDaemon('coordinator', `c${index + 1}`, settings));
    }
    for (let index = 0; index < this.#options.workers; index++) {
      const name = `w${index + 1}`;
      const settings = {
        listen: '127.0.0.1:0',
        lease_ttl_seconds: WORKER_LEASE_SECONDS,
        python: this.#options.python,
        code_dir: join(this.#folder, 'code', name),
        engine: { scratch_dir: this.#scratchOf(name) },
        // Counted round the GPUs: several workers share one where there are too few.
        gpu: index,
        same_host: this.#options.separateHosts !== true,
        preflight: this.#options.preflight === true,
        die_with_parent: true,
      };
      this.#workers.push(this.#startDaemon('worker', name, settings));
    }
    const leader = await this.#untilReady(signal);
    return {
      api: leader.address,
      dashboard: leader.dashboard ?? '',
      etcd: this.#etcdUrl,
      ...(this.#certificates === undefined ? {} : { tls: this.#certificates.adminFolder }),
      pids: {
        etcd: this.#etcd?.pid ?? 0,
        coordinators: this.#coordinators.map((one) => one.pid),
        workers: Object.fromEntries(this.#workers.map((one) => [one.name, one.pid])),
      },
    };
  }

  /** Ends everything: workers first, so that they hand over while there is somebody to hand over to. Leaves no process behind. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stopAll();
    return this.#stopped;
  }

  /** Ends everything now, without asking. */
  async kill(): Promise<void> {
    for (const one of this.#processes()) one.kill();
    await this.#clear();
  }

  async #stopAll(): Promise<void> {
    await Promise.all(this.#workers.map((one) => one.stop(WORKER_GRACE_MS)));
    await Promise.all(this.#coordinators.map((one) => one.stop(COORDINATOR_GRACE_MS)));
    await this.#etcd?.stop(ETCD_GRACE_MS);
    await this.#clear();
  }

  /** What daemons leave that were killed. */
  async #clear(): Promise<void> {
    await this.#orphans.sweepAll(ORPHANS_GRACE_MS);
    await Promise.allSettled(this.#workers.map(({ name }) => removeFolder(this.#scratchOf(name))));
  }

  #scratchOf(worker: string): string {
    return `${this.#scratch}-${worker}`;
  }

  #processes(): readonly SupervisedProcess[] {
    return [...this.#workers, ...this.#coordinators, ...(this.#etcd === undefined ? [] : [this.#etcd])];
  }

  #checkBuilt(): void {
    for (const daemon of ['coordinator', 'worker']) {
      if (existsSync(this.#mainOf(daemon))) continue;
      throw new CliError(exitCodes.usage, `${this.#mainOf(daemon)} is missing; run: npm run setup`);
    }
  }

  #mainOf(daemon: string): string {
    return join(this.#options.repository, 'dist', daemon, 'main.js');
  }

  #startDaemon(daemon: string, name: string, settings: Readonly<Record<string, unknown>>): SupervisedProcess {
    const path = join(this.#folder, `${name}.yaml`);
    const etcd = { endpoints: [this.#etcdUrl], prefix: PREFIX };
    const tls = this.#certificates === undefined ? {} : this.#certificates.sectionOf(daemon, name);
    writeFileSync(path, stringify({ name, etcd, ...tls, ...settings }));
    return this.#supervise(name, process.execPath, [this.#mainOf(daemon), '--config', path], this.#options.environment);
  }

  #supervise(
    name: string,
    command: string,
    args: readonly string[],
    environment: Readonly<Record<string, string | undefined>>,
  ): SupervisedProcess {
    return new SupervisedProcess({
      name,
      command,
      args,
      environment,
      logPath: join(this.#folder, 'logs', `${name}.log`),
      onExit: (exit) => {
        // Its engine, or what that started, may only become an orphan a moment later.
        for (const ms of [0, 100, 1000]) setTimeout(() => this.#orphans.sweep(), ms).unref();
        if (!exit.expected) this.#options.onExit?.(exit);
      },
    });
  }

  async #startEtcd(signal: AbortSignal): Promise<void> {
    for (let tries = 1; ; tries++) {
      const [client = 0, peer = 0] = await freePorts(2);
      this.#etcdUrl = `${this.#scheme}://127.0.0.1:${client}`;
      this.#etcd = this.#supervise(
        'etcd',
        'etcd',
        this.#etcdArguments(peer),
        etcdEnvironment(this.#options.environment),
      );
      if (await this.#etcdAnswers(this.#etcd, signal)) return;
      await this.#etcd.stop(ETCD_GRACE_MS);
      if (tries === ETCD_START_TRIES) throw this.#failed(this.#etcd, 'did not start');
    }
  }

  get #scheme(): string {
    return this.#certificates === undefined ? 'http' : 'https';
  }

  #etcdArguments(peerPort: number): readonly string[] {
    const peerUrl = `${this.#scheme}://127.0.0.1:${peerPort}`;
    return [
      ...['--name', 'lockstep', '--data-dir', join(this.#folder, 'etcd')],
      ...['--listen-client-urls', this.#etcdUrl, '--advertise-client-urls', this.#etcdUrl],
      ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
      ...['--initial-cluster', `lockstep=${peerUrl}`],
      ...['--quota-backend-bytes', String(ETCD_QUOTA_BYTES)],
      ...['--auto-compaction-mode', 'periodic', '--auto-compaction-retention', '1h'],
      ...['--logger', 'zap', '--log-level', 'warn', '--log-outputs', 'stderr'],
      ...(this.#certificates?.etcdArguments ?? []),
    ];
  }

  /** False when it died, for example because another process was faster in taking its port. */
  async #etcdAnswers(etcd: SupervisedProcess, signal: AbortSignal): Promise<boolean> {
    const untilMs = performance.now() + ETCD_START_MS;
    while (performance.now() < untilMs) {
      throwIfAborted(signal);
      if (etcd.quickExits > 0) return false;
      if (await this.#etcdIsUp()) return true;
      await delay(20);
    }
    throw this.#failed(etcd, `did not answer within ${ETCD_START_MS / 1000} s`);
  }

  async #etcdIsUp(): Promise<boolean> {
    if (this.#certificates === undefined) return isUp(`${this.#etcdUrl}/version`);
    const client = this.#etcdClient(ETCD_LOOK_MS);
    try {
      await readLeader(client);
      return true;
    } catch (error) {
      if (error instanceof EtcdFailure) return false;
      throw error;
    } finally {
      client.close();
    }
  }

  #etcdClient(callTimeoutMs: number): EtcdClient {
    const credentials = this.#certificates?.admin;
    return connectEtcd({ endpoints: [this.#etcdUrl], prefix: `${PREFIX}/`, callTimeoutMs, credentials });
  }

  async #untilReady(signal: AbortSignal): Promise<Leader> {
    const client = this.#etcdClient(ETCD_CALL_MS);
    try {
      const untilMs = performance.now() + START_MS;
      for (;;) {
        throwIfAborted(signal);
        this.#throwIfHopeless();
        const missing = await this.#missing(client).catch(etcdIsMissing);
        if (typeof missing !== 'string') return missing;
        if (performance.now() > untilMs) {
          throw new CliError(
            exitCodes.unreachable,
            `${missing} was not ready within ${START_MS / 1000} s; see ${this.#folder}/logs`,
          );
        }
        await delay(50);
      }
    } finally {
      client.close();
    }
  }

  /** What is not ready yet; the leader when all is. */
  async #missing(client: EtcdClient): Promise<string | Leader> {
    const coordinators = await readMembers(client, coordinatorsFolder);
    const workers = await readMembers(client, workersFolder);
    for (const [members, processes] of [
      [coordinators, this.#coordinators],
      [workers, this.#workers],
    ] as const) {
      for (const one of processes) {
        // A key of the process before this one may still be under its lease.
        if (memberValue.safeParse(members.get(one.name)).data?.pid !== one.pid) return one.name;
      }
    }
    const addresses = this.#coordinators.flatMap(
      (one) => memberValue.safeParse(coordinators.get(one.name)).data?.address ?? [],
    );
    const leader = await readLeader(client);
    if (leader === undefined || !addresses.includes(leader.address)) return 'a leading coordinator';
    this.#servers = [leader.address, ...addresses.filter((address) => address !== leader.address)];
    return leader;
  }

  #throwIfHopeless(): void {
    for (const one of this.#processes()) {
      if (one.givenUp) throw this.#failed(one, 'has a bad configuration');
      if (one.quickExits >= MAX_QUICK_EXITS) throw this.#failed(one, 'dies again and again');
    }
  }

  #failed(one: SupervisedProcess, problem: string): CliError {
    return new CliError(exitCodes.unreachable, `${one.name} ${problem}: ${lastLine(one.logPath)} (see ${one.logPath})`);
  }
}

/** On a busy disk etcd may not answer in time; it is then what is not ready yet. */
function etcdIsMissing(error: unknown): string {
  if (error instanceof EtcdFailure) return 'etcd';
  throw error;
}

function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new CliError(exitCodes.interrupted, 'interrupted');
}

function lastLine(path: string): string {
  return readFileSync(path, 'utf8').trimEnd().split('\n').at(-1)?.slice(0, 300) ?? '';
}

async function isUp(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(500) });
    await answer.text();
    return answer.ok;
  } catch {
    return false;
  }
}

/** Without what the user's shell says about another etcd, which would take precedence over nothing but still confuse it. */
function etcdEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  const own = Object.fromEntries(Object.entries(environment).filter(([name]) => !/^ETCD(CTL)?_/.test(name)));
  // Debian's etcd refuses to start on this architecture without being told that one means it.
  return process.arch === 'arm64' ? { ...own, ETCD_UNSUPPORTED_ARCH: 'arm64' } : own;
}

async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT));
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });
}
