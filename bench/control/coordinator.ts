/** One real coordinator daemon and the real etcd that it needs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { connectEtcd } from '../../shared/etcd/client.js';
import { type Leader, readLeader } from '../../shared/etcd/leader_watch.js';
import { type EtcdServer, startEtcd } from '../../test/etcd_server.js';
import { type LoopDelay, loopDelay } from './messages.js';

const START_MS = 20_000;
const LOOK_MS = 50;
const PREFIX = '/lockstep';

export interface CoordinatorOptions {
  /** For its configuration and its log. */
  readonly folder: string;
  /** Folder that contains dist/. */
  readonly repository: string;
  /** Where a CPU profile of it goes when it ends; undefined: none is taken. */
  readonly profiles: string | undefined;
}

export class MeasuredCoordinator {
  private constructor(
    readonly etcd: EtcdServer,
    readonly leader: Leader,
    private readonly process: ChildProcess,
  ) {}

  static async start(options: CoordinatorOptions): Promise<MeasuredCoordinator> {
    const etcd = await startEtcd();
    const child = startDaemon(options, etcd.endpoint);
    const leader = await untilLeader(etcd.endpoint);
    return new MeasuredCoordinator(etcd, leader, child);
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  get port(): number {
    return Number(this.leader.address.slice(this.leader.address.lastIndexOf(':') + 1));
  }

  /** How late its event loop was since this was asked last. */
  async loopDelay(): Promise<LoopDelay> {
    const answered = once(this.process, 'message');
    this.process.send('loop delay');
    const [late] = await answered;
    return loopDelay.parse(late);
  }

  async stop(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const exited = once(this.process, 'exit');
      this.process.kill('SIGTERM');
      await exited;
    }
    await this.etcd.stop();
  }
}

function startDaemon({ folder, repository, profiles }: CoordinatorOptions, endpoint: string): ChildProcess {
  const config = join(folder, 'c1.yaml');
  // All loopback addresses: the simulated workers use one each.
  const settings = {
    name: 'c1',
    listen: '0.0.0.0:0',
    open_to_network: true,
    lease_ttl_seconds: 3,
    die_with_parent: true,
    log: { level: 'warn' },
  };
  writeFileSync(config, stringify({ ...settings, etcd: { endpoints: [endpoint], prefix: PREFIX } }));
  const profiling = profiles === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', profiles];
  const probe = ['--import', join(repository, 'dist/bench/control/loop_delay.js')];
  const log = openSync(join(folder, 'c1.log'), 'w');
  const child = spawn(
    process.execPath,
    [...profiling, ...probe, join(repository, 'dist/coordinator/main.js'), '--config', config],
    { stdio: ['ignore', log, log, 'ipc'] },
  );
  closeSync(log);
  return child;
}

async function untilLeader(endpoint: string): Promise<Leader> {
  const client = connectEtcd({ endpoints: [endpoint], prefix: `${PREFIX}/`, callTimeoutMs: 2_000 });
  try {
    const untilMs = performance.now() + START_MS;
    while (performance.now() < untilMs) {
      const leader = await readLeader(client);
      if (leader !== undefined) return leader;
      await delay(LOOK_MS);
    }
    throw new Error(`no coordinator led within ${START_MS} ms`);
  } finally {
    client.close();
  }
}
