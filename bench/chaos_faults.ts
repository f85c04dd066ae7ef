/** The faults that a storm is made of, each against a running cluster. */
import { setTimeout as delay } from 'node:timers/promises';
import type { FaultCluster } from '../test/faults/fault_cluster.js';
import type { Network } from '../test/faults/network.js';

export const FAULT_KINDS = ['worker', 'engine', 'coordinator', 'stop', 'link', 'etcd'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export const FAULT_NAMES: Readonly<Record<FaultKind, string>> = {
  worker: 'SIGKILL of a worker daemon',
  engine: 'SIGKILL of an engine',
  coordinator: 'SIGKILL of the leading coordinator',
  stop: 'SIGSTOP of a worker daemon for 15 s',
  link: 'link of a worker down for 10 s',
  etcd: 'SIGKILL of etcd',
};

const STOPPED_MS = 15_000;
const LINK_DOWN_MS = 10_000;

export interface Target {
  readonly cluster: FaultCluster;
  /** Present when the cluster has a network of its own. */
  readonly network: Network | undefined;
  /** The worker that it hits, if it hits one. */
  readonly worker: string;
}

export interface Injected {
  /** Who was hit. */
  readonly who: string;
  /** By Date.now(). */
  readonly atMs: number;
  /** Resolves when what was frozen or cut off is there again. */
  readonly over: Promise<void>;
}

function now(who: string, over: Promise<void> = Promise.resolve()): Injected {
  return { who, atMs: Date.now(), over };
}

async function stop({ cluster, worker }: Target): Promise<Injected> {
  const pid = await cluster.signal(worker, 'SIGSTOP');
  const thaw = async () => {
    await delay(STOPPED_MS);
    process.kill(pid, 'SIGCONT');
  };
  return now(worker, thaw());
}

function cutOff({ network, worker }: Target): Injected {
  if (network === undefined) throw new Error('there is no network whose links can be taken down');
  network.setLink(worker, 'down');
  const restore = async () => {
    await delay(LINK_DOWN_MS);
    network.setLink(worker, 'up');
  };
  return now(worker, restore());
}

export async function inject(kind: FaultKind, target: Target): Promise<Injected> {
  const { cluster, worker } = target;
  switch (kind) {
    case 'worker':
      await cluster.signal(worker, 'SIGKILL');
      return now(worker);
    case 'engine':
      await cluster.signalEngine(worker, 'SIGKILL');
      return now(`the engine of ${worker}`);
    case 'coordinator': {
      const { name } = await cluster.leader();
      await cluster.signal(name, 'SIGKILL');
      return now(name);
    }
    case 'etcd':
      await cluster.signal('etcd', 'SIGKILL');
      return now('etcd');
    case 'stop':
      return stop(target);
    case 'link':
      return cutOff(target);
  }
}
