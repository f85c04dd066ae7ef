/** A cluster of real processes that can be killed, frozen and watched. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { nanoid } from 'nanoid';
import { parse } from 'yaml';
import { z } from 'zod';
import { CliError, exitCodes } from '../../cli/exit_codes.js';
import { JobsClient } from '../../cli/jobs_client.js';
import { connectEtcd, type EtcdClient } from '../../shared/etcd/client.js';
import { readLeader } from '../../shared/etcd/leader_watch.js';
import { type Credentials, credentialFilesOf, readCredentials } from '../../shared/identity/credential_files.js';
import type { JobFileOnDisk } from '../../shared/job_file.js';
import type { Node } from '../../shared/wire/jobs.js';
import { type FaultJobOptions, writeFaultJob } from './fault_job.js';
import type { Network } from './network.js';
import { NetworkLauncher, type NetworkOptions } from './network_launcher.js';
import { daemonPid, enginePid, isAlive, processesOf } from './processes.js';
import { repository } from './repository.js';
import { until } from './until.js';
import { WatchedJob } from './watched_job.js';

const READY_MS = 90_000;
const RESTART_MS = 30_000;
const STOP_MS = 30_000;
const ETCD_CALL_MS = 2000;

const readyLine = z.object({ event: z.literal('ready'), etcd: z.string() });
const exitLine = z.object({
  event: z.literal('process_exited'),
  name: z.string(),
  pid: z.number(),
  code: z.number().nullable(),
  signal: z.string().nullable(),
});
const listenSection = z.object({ listen: z.string() });

/** An exit that nobody had asked for: of a process that is started again. */
export type ProcessExit = Omit<z.infer<typeof exitLine>, 'event'>;

export interface ClusterSize {
  readonly workers: number;
  readonly coordinators: number;
  /** On the loopback device: the workers send gradients to each other as if each were on a host of its own. */
  readonly separateHosts?: boolean;
  /** Everything talks over TLS. */
  readonly tls?: boolean;
}

/** What keeps the processes running: `lockstep up`, or the network of a test. */
export interface Launcher {
  /** Folder with one configuration a daemon. */
  readonly folder: string;
  readonly etcdUrl: string;
  /** Exits of processes that nobody had told to end. */
  readonly exits: readonly ProcessExit[];
  /** Ends all processes in good order and returns the launcher's exit code. */
  stop(): Promise<number>;
}

export class FaultCluster {
  readonly folder: string;
  readonly client: JobsClient;
  readonly etcd: EtcdClient;
  readonly workers: readonly string[];
  readonly coordinators: readonly string[];
  readonly #launcher: Launcher;
  readonly #closed = new AbortController();
  readonly #credentials: Credentials | undefined;
  #jobs = 0;

  constructor(launcher: Launcher, size: ClusterSize) {
    this.#launcher = launcher;
    this.folder = launcher.folder;
    this.workers = names('w', size.workers);
    this.coordinators = names('c', size.coordinators);
    this.#credentials =
      size.tls === true ? readCredentials(credentialFilesOf(join(this.tlsFolder, 'user-admin'))) : undefined;
    this.client = this.#newClient();
    const credentials = this.#credentials && { current: this.#credentials, onChange: () => undefined };
    const endpoints = [launcher.etcdUrl];
    this.etcd = connectEtcd({ endpoints, prefix: '/lockstep/', callTimeoutMs: ETCD_CALL_MS, credentials });
  }

  /** On the loopback device, by `lockstep up`; in the folder of a cluster that was killed it goes on where that one was. */
  static async start(
    size: ClusterSize,
    folder = mkdtempSync(join(tmpdir(), 'lockstep-faults-')),
  ): Promise<FaultCluster> {
    return new FaultCluster(await LocalLauncher.start(folder, size), size);
  }

  /** Each process a host of its own network. */
  static async startInNetwork(
    size: ClusterSize,
    options?: NetworkOptions,
  ): Promise<{ readonly cluster: FaultCluster; readonly network: Network }> {
    const launcher = new NetworkLauncher(mkdtempSync(join(tmpdir(), 'lockstep-faults-')), size, options);
    const cluster = new FaultCluster(launcher, size);
    await cluster.untilAllIdle(READY_MS).catch(async (error: unknown) => {
      await cluster.stop();
      throw error;
    });
    return { cluster, network: launcher.network };
  }

  get etcdUrl(): string {
    return this.#launcher.etcdUrl;
  }

  /** With the cluster's authority, of one that has certificates. */
  get tlsFolder(): string {
    return join(this.folder, 'tls');
  }

  get exits(): readonly ProcessExit[] {
    return this.#launcher.exits;
  }

  /** Of a daemon (w1, c1) or of etcd; waits until it runs. */
  pid(name: string): Promise<number> {
    return until(() => daemonPid(this.folder, name) || undefined, { limitMs: RESTART_MS, what: `process ${name}` });
  }

  /** Of the engine of a worker; waits until it runs. */
  enginePid(worker: string): Promise<number> {
    const look = () => enginePid(daemonPid(this.folder, worker)) || undefined;
    return until(look, { limitMs: RESTART_MS, what: `the engine of ${worker}` });
  }

  /** Sends a signal to a daemon or to etcd and returns the id of the process that got it. */
  async signal(name: string, signal: NodeJS.Signals): Promise<number> {
    const pid = await this.pid(name);
    process.kill(pid, signal);
    return pid;
  }

  async signalEngine(worker: string, signal: NodeJS.Signals): Promise<number> {
    const pid = await this.enginePid(worker);
    process.kill(pid, signal);
    return pid;
  }

  /** Name of the coordinator that leads, as etcd knows it. */
  async leader(limitMs = RESTART_MS): Promise<{ readonly name: string; readonly term: number }> {
    return until(() => readLeader(this.etcd).catch(() => undefined), { limitMs, what: 'a leader', everyMs: 50 });
  }

  untilAnotherLeads(before: { readonly term: number }, limitMs: number): Promise<{ readonly name: string }> {
    const look = async () => {
      const leader = await readLeader(this.etcd).catch(() => undefined);
      return leader !== undefined && leader.term > before.term && leader;
    };
    return until(look, { limitMs, what: `a leader after term ${before.term}` });
  }

  /** Resolves when all workers are there. */
  untilAllIdle(limitMs = RESTART_MS): Promise<readonly Node[]> {
    const look = async () => {
      const nodes = await this.client.nodes().catch(nobodyWhenUnreachable);
      return nodes.length === this.workers.length && nodes.every(({ state }) => state === 'idle') && nodes;
    };
    return until(look, { limitMs, what: 'all workers to be idle', everyMs: 100 });
  }

  submit(options: FaultJobOptions, checkpoints?: string): Promise<WatchedJob> {
    return this.submitFile(this.#writeJob(options), checkpoints);
  }

  /** As another user than the one who runs the tests. */
  async submitAs(user: string, options: FaultJobOptions): Promise<WatchedJob> {
    const client = this.#newClient(user);
    try {
      return await this.submitFile(this.#writeJob(options), undefined, client);
    } finally {
      client.close();
    }
  }

  #writeJob(options: FaultJobOptions): JobFileOnDisk {
    this.#jobs += 1;
    return writeFaultJob(join(this.folder, `job${this.#jobs}`), options);
  }

  #newClient(user?: string, credentials = this.#credentials): JobsClient {
    const servers = this.coordinators.map((name) => listenAddress(this.folder, name));
    return new JobsClient({ servers, signal: this.#closed.signal, user, credentials });
  }

  /** Of somebody with another certificate. */
  clientOf(credentials: Credentials): JobsClient {
    return this.#newClient(undefined, credentials);
  }

  /** A job of the cluster that was killed in the same folder. */
  watch({ job, bundle }: Pick<WatchedJob, 'job' | 'bundle'>): WatchedJob {
    return new WatchedJob(this.client, job, bundle);
  }

  async submitFile(
    { spec, bundle }: JobFileOnDisk,
    checkpoints = join(this.folder, 'checkpoints'),
    client = this.client,
  ): Promise<WatchedJob> {
    const operationId = nanoid();
    const output = join(this.folder, 'models', operationId);
    const job = await client.submit({ operationId, spec, bundle, output, checkpoints });
    return new WatchedJob(this.client, job, bundle);
  }

  /** The configuration of a daemon or the log of anything, for the messages of failed tests. */
  log(name: string): string {
    return readFileSync(join(this.folder, 'logs', `${name}.log`), 'utf8');
  }

  /** SIGKILL to every process, etcd and the launcher included, all at once: as if all machines lost power. The folder stays. */
  async killAll(): Promise<void> {
    this.#closed.abort();
    this.client.close();
    this.etcd.close();
    const engines = this.workers.map((worker) => enginePid(daemonPid(this.folder, worker)));
    for (const pid of [...processesOf(this.folder).map(({ pid }) => pid), ...engines]) killQuietly(pid);
    await until(() => processesOf(this.folder).length === 0, { limitMs: STOP_MS, what: 'the end of all processes' });
    await until(() => !engines.some(isAlive), { limitMs: STOP_MS, what: 'the end of all engines' });
  }

  /** Ends everything; the launcher's exit code, and what was left running. The folder, with all logs, goes if nobody wants to look at it. */
  async stop(options?: {
    readonly keepsFolder: boolean;
  }): Promise<{ readonly code: number; readonly left: readonly string[] }> {
    this.#closed.abort();
    this.client.close();
    this.etcd.close();
    const code = await this.#launcher.stop();
    const left = processesOf(this.folder).map(({ pid, command }) => `${pid} ${command.join(' ')}`);
    if (options?.keepsFolder !== true) rmSync(this.folder, { recursive: true, force: true });
    return { code, left };
  }
}

function killQuietly(pid: number): void {
  try {
    if (pid > 0) process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}

/** For whoever waits for a coordinator anyway. */
function nobodyWhenUnreachable(error: unknown): readonly Node[] {
  if (error instanceof CliError && error.exitCode === exitCodes.unreachable) return [];
  throw error;
}

function names(letter: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `${letter}${index + 1}`);
}

function listenAddress(folder: string, name: string): string {
  return listenSection.parse(parse(readFileSync(join(folder, `${name}.yaml`), 'utf8'))).listen;
}

class LocalLauncher implements Launcher {
  readonly exits: ProcessExit[] = [];
  etcdUrl = '';

  private constructor(
    readonly folder: string,
    private readonly child: ChildProcess,
  ) {}

  static async start(folder: string, size: ClusterSize): Promise<LocalLauncher> {
    const counts = ['--workers', String(size.workers), '--coordinators', String(size.coordinators)];
    if (size.separateHosts === true) counts.push('--separate-hosts');
    if (size.tls === true) counts.push('--tls');
    const args = [join(repository, 'bin/lockstep'), 'up', '--json', '--dir', folder, ...counts];
    // It ends its cluster, in good order, when the test's process dies.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const launcher = new LocalLauncher(folder, child);
    createInterface(child.stdout).on('line', (line) => launcher.#read(JSON.parse(line)));
    await until(() => launcher.etcdUrl !== '' || !launcher.#runs(), { limitMs: READY_MS, what: 'the cluster' });
    if (!launcher.#runs()) throw new Error(`lockstep up ended with status ${child.exitCode}`);
    return launcher;
  }

  #runs(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  #read(line: unknown): void {
    const ready = readyLine.safeParse(line);
    if (ready.success) this.etcdUrl = ready.data.etcd;
    const exit = exitLine.safeParse(line);
    if (exit.success) this.exits.push(exit.data);
  }

  async stop(): Promise<number> {
    if (!this.#runs()) return this.child.exitCode ?? 1;
    this.child.kill('SIGINT');
    const hopeless = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS);
    const [code] = await once(this.child, 'exit');
    clearTimeout(hopeless);
    return typeof code === 'number' ? code : 1;
  }
}
