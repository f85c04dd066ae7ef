/** A cluster whose etcd, coordinators and workers are hosts of a network of their own. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { SupervisedProcess } from '../../cli/supervised_process.js';
import type { ClusterSize, Launcher, ProcessExit } from './fault_cluster.js';
import { Network } from './network.js';
import { repository } from './repository.js';

const ETCD_PORT = 2379;
const ETCD_PEER_PORT = 2380;
const COORDINATOR_PORT = 7000;
/** As `lockstep up` has them. */
const COORDINATOR_LEASE_SECONDS = 3;
const WORKER_LEASE_SECONDS = 10;
const GRACE_MS = 5000;

export interface NetworkOptions {
  /** Size at which etcd is out of space. */
  readonly etcdQuotaBytes?: number;
  /** The workers measure themselves before they get jobs. */
  readonly preflight?: boolean;
  /** Interpreters of engines that are not the usual one. */
  readonly pythonOf?: (worker: string) => string;
  /** Hosts whose links are slow from the beginning, in megabits a second. */
  readonly narrow?: ReadonlyMap<string, number>;
  /** What a daemon has in its environment besides that of the test. */
  readonly environmentOf?: (name: string) => Readonly<Record<string, string>>;
}

export class NetworkLauncher implements Launcher {
  readonly exits: ProcessExit[] = [];
  readonly network = new Network();
  readonly etcdUrl: string;
  readonly #daemons: SupervisedProcess[] = [];
  readonly #etcd: SupervisedProcess;

  constructor(
    readonly folder: string,
    { workers, coordinators }: ClusterSize,
    private readonly options: NetworkOptions = {},
  ) {
    mkdirSync(join(folder, 'logs'), { recursive: true });
    try {
      this.etcdUrl = `http://${this.network.addHost('etcd').address}:${ETCD_PORT}`;
      this.#etcd = this.#supervise('etcd', ['etcd', ...this.#etcdArguments()]);
      for (let number = 1; number <= coordinators; number++) this.#startCoordinator(`c${number}`);
      for (let number = 1; number <= workers; number++) this.#startWorker(`w${number}`);
    } catch (error) {
      this.network.close();
      throw error;
    }
  }

  #startCoordinator(name: string): void {
    const { address } = this.network.addHost(name);
    this.#startDaemon('coordinator', name, {
      listen: `${address}:${COORDINATOR_PORT}`,
      lease_ttl_seconds: COORDINATOR_LEASE_SECONDS,
      scheduling: { quarantine_after: 0 },
    });
  }

  #startWorker(name: string): void {
    const { address } = this.network.addHost(name);
    const megabits = this.options.narrow?.get(name);
    if (megabits !== undefined) this.network.shape(name, megabits);
    this.#startDaemon('worker', name, {
      listen: `${address}:0`,
      lease_ttl_seconds: WORKER_LEASE_SECONDS,
      python: this.options.pythonOf?.(name) ?? readFileSync(join(repository, 'dist/.python'), 'utf8').trim(),
      code_dir: join(this.folder, 'code', name),
      preflight: this.options.preflight === true,
    });
  }

  #startDaemon(daemon: string, name: string, settings: Readonly<Record<string, unknown>>): void {
    const path = join(this.folder, `${name}.yaml`);
    const etcd = { endpoints: [this.etcdUrl], prefix: '/lockstep' };
    // The network has no others than these hosts.
    writeFileSync(path, stringify({ name, etcd, open_to_network: true, die_with_parent: true, ...settings }));
    const main = join(repository, 'dist', daemon, 'main.js');
    this.#daemons.push(this.#supervise(name, [process.execPath, main, '--config', path]));
  }

  #supervise(name: string, command: readonly string[]): SupervisedProcess {
    return new SupervisedProcess({
      name,
      // ip becomes the command and keeps its pid.
      command: 'ip',
      args: ['netns', 'exec', this.network.host(name).namespace, ...command],
      environment: { ...process.env, ...this.options.environmentOf?.(name) },
      logPath: join(this.folder, 'logs', `${name}.log`),
      onExit: (exit) => {
        if (!exit.expected) this.exits.push(exit);
      },
    });
  }

  #etcdArguments(): readonly string[] {
    const peerUrl = `http://${this.network.host('etcd').address}:${ETCD_PEER_PORT}`;
    return [
      ...['--name', 'lockstep', '--data-dir', join(this.folder, 'etcd')],
      ...['--listen-client-urls', this.etcdUrl, '--advertise-client-urls', this.etcdUrl],
      ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
      ...['--initial-cluster', `lockstep=${peerUrl}`, '--logger', 'zap', '--log-level', 'warn'],
      ...(this.options.etcdQuotaBytes === undefined
        ? []
        : ['--quota-backend-bytes', String(this.options.etcdQuotaBytes)]),
    ];
  }

  async stop(): Promise<number> {
    await Promise.all(this.#daemons.map((daemon) => daemon.stop(GRACE_MS)));
    await this.#etcd.stop(GRACE_MS);
    this.network.close();
    return 0;
  }
}
