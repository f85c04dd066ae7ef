/** A real etcd for tests, on free loopback ports with its data in a temporary directory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Etcd3 } from 'etcd3';
import type { CredentialFiles } from '../shared/identity/credential_files.js';

export interface StartEtcdOptions {
  /** Size at which etcd raises the NOSPACE alarm. */
  readonly quotaBytes?: number | undefined;
  /** Its certificate; then it takes calls over TLS only, of those who have one of the same authority. */
  readonly certificates?: CredentialFiles | undefined;
}

export interface EtcdServer {
  /** http://127.0.0.1:port, the same after a restart. */
  readonly endpoint: string;
  readonly port: number;
  readonly dataDir: string;
  /** Process id of the etcd that runs now. */
  readonly pid: number;
  /** Ends etcd and removes its data. */
  stop(): Promise<void>;
  /** SIGKILL; the data stay. */
  kill(): Promise<void>;
  /** Starts etcd on its data and ports; after kill, or killing it first. */
  restart(): Promise<void>;
  /** SIGSTOP. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** Forgets all revisions but the newest. */
  compact(): Promise<void>;
  /** Gives space back and clears the NOSPACE alarm. */
  makeRoom(): Promise<void>;
}

/**
 * Found by PATH: Debian's etcd-server, 3.4. setpriv (util-linux) makes the kernel kill it when the test process dies, however that
 * happens, and then becomes it: the process id is etcd's.
 */
const program = 'etcd';
const startTimeoutMs = 15_000;

/** Somebody else may take a port that was free a moment ago; then others are tried. */
export async function startEtcd(options: StartEtcdOptions = {}, tries = 3): Promise<EtcdServer> {
  const server = new LocalEtcd(
    await freePort(),
    await freePort(),
    await freePort(),
    await mkdtemp(join(tmpdir(), 'lockstep-etcd-')),
    options,
  );
  try {
    await server.restart();
    return server;
  } catch (error) {
    await server.stop();
    if (tries <= 1) throw error;
    return startEtcd(options, tries - 1);
  }
}

class LocalEtcd implements EtcdServer {
  readonly endpoint: string;
  #process: ChildProcess | undefined;
  #output = '';

  constructor(
    readonly port: number,
    readonly peerPort: number,
    readonly metricsPort: number,
    readonly dataDir: string,
    readonly options: StartEtcdOptions,
  ) {
    this.endpoint = `${options.certificates === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  async restart(): Promise<void> {
    await this.kill();
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...this.#arguments()], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    this.#output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        this.#output = (this.#output + chunk.toString()).slice(-4000);
      });
    }
    await this.#ready(child);
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.dataDir, { recursive: true, force: true });
  }

  freeze(): void {
    this.#process?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#process?.kill('SIGCONT');
  }

  async compact(): Promise<void> {
    const client = this.#client();
    const { header } = await client.kv.range({ key: Buffer.from('x') });
    await client.kv.compact({ revision: header.revision, physical: true });
    client.close();
  }

  async makeRoom(): Promise<void> {
    await this.compact();
    const client = this.#client();
    await client.maintenance.defragment();
    const { alarms } = await client.maintenance.alarm({ action: 'Get' });
    for (const { memberID, alarm } of alarms) await client.maintenance.alarm({ action: 'Deactivate', memberID, alarm });
    client.close();
  }

  #client(): Etcd3 {
    return new Etcd3({ hosts: this.endpoint, defaultCallOptions: () => ({ deadline: Date.now() + 10_000 }) });
  }

  #arguments(): string[] {
    const peer = `http://127.0.0.1:${this.peerPort}`;
    return [
      ...['--name', 'test', '--data-dir', this.dataDir, '--logger', 'zap', '--log-level', 'warn'],
      ...['--listen-client-urls', this.endpoint, '--advertise-client-urls', this.endpoint],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`],
      // A short election timeout makes short leases possible: the least TTL is one and a half of it, rounded up to seconds.
      ...['--heartbeat-interval', '50', '--election-timeout', '500'],
      ...this.#securityArguments(),
      ...(this.options.quotaBytes === undefined ? [] : ['--quota-backend-bytes', String(this.options.quotaBytes)]),
    ];
  }

  #securityArguments(): string[] {
    const { certificates } = this.options;
    if (certificates === undefined) return [];
    return [
      ...['--cert-file', certificates.certificate, '--key-file', certificates.key],
      ...['--trusted-ca-file', certificates.ca, '--client-cert-auth', '--listen-metrics-urls', this.#plainUrl],
    ];
  }

  /** Where it says without TLS that it runs. */
  get #plainUrl(): string {
    return this.options.certificates === undefined ? this.endpoint : `http://127.0.0.1:${this.metricsPort}`;
  }

  async #ready(child: ChildProcess): Promise<void> {
    const failed = once(child, 'error').then(([error]) => Promise.reject(error));
    failed.catch(() => undefined);
    const untilMs = performance.now() + startTimeoutMs;
    while (performance.now() < untilMs) {
      if (child.exitCode !== null) throw new Error(`etcd exited with ${child.exitCode}: ${this.#output}`);
      // The port may be that of somebody who never answers.
      if (await Promise.race([isHealthy(this.#plainUrl), delay(1_000, false), failed])) return;
      await delay(20);
    }
    throw new Error(`etcd was not ready in ${startTimeoutMs} ms: ${this.#output}`);
  }
}

async function isHealthy(url: string): Promise<boolean> {
  try {
    // With the NOSPACE alarm on, etcd says that it is unhealthy, and yet serves reads.
    const answer = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(500) });
    await answer.text();
    return answer.ok;
  } catch {
    return false;
  }
}

/** A loopback port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
