/** Where the course of a job is shown. One implementation for each kind: terminal, plain, ndjson. */
import type { JobEvent, LogEntry } from '../../shared/wire/jobs.js';

export interface ReadyCluster {
  /** host:port of the leading coordinator. */
  readonly api: string;
  /** URL of the leader's dashboard; the others lead there. */
  readonly dashboard: string;
  /** URL of etcd. */
  readonly etcd: string;
  /** Folder with the certificate of an administrator, for --tls-dir, if the cluster has certificates. */
  readonly tls?: string;
  readonly pids: {
    readonly etcd: number;
    readonly coordinators: readonly number[];
    readonly workers: Readonly<Record<string, number>>;
  };
}

export interface Output {
  /** Whether the user's prints are shown, so that they need not be fetched otherwise. */
  readonly showsLogs: boolean;
  ready(cluster: ReadyCluster): void;
  event(event: JobEvent): void;
  log(entry: LogEntry): void;
  /** One line for people only. */
  note(text: string): void;
  /** Leaves the terminal as it was. Nothing is shown afterwards. */
  close(): void;
}

/** Takes text that is whole lines. */
export type Write = (text: string) => void;

export function readyLine(cluster: ReadyCluster): string {
  const workers = Object.keys(cluster.pids.workers).length;
  const coordinators = cluster.pids.coordinators.length;
  const tls = cluster.tls === undefined ? '' : `, tls ${cluster.tls}`;
  return `ready: coordinators ${coordinators}, workers ${workers}, server ${cluster.api}, etcd ${cluster.etcd}, dashboard ${cluster.dashboard}${tls}`;
}
