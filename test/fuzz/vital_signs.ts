/** Whether the cluster under attack is what it was: the same processes, answers in time, memory within a bound, and steps that come. */
import { readFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import type { Credentials } from '../../shared/identity/credential_files.js';
import { contextOptions, SERVER_NAME } from '../../shared/identity/tls_options.js';
import { withPrefix } from '../../worker/collective/grpc_wire.js';
import { PULL_PATH, serializePullRequest } from '../../worker/collective/peer_service.js';
import type { FaultCluster } from '../faults/fault_cluster.js';
import type { WatchedJob } from '../faults/watched_job.js';
import type { Address } from './deliver.js';

/** Of any legitimate call, however busy the ports are. */
const ANSWER_MS = 5_000;
/** Of a step, which takes some 100 ms when nobody disturbs. */
const STEP_MS = 20_000;
/** Above what a process had at first. */
const MOST_GROWTH_BYTES = 400 * 1024 * 1024;

export interface Ports {
  readonly coordinator: Address;
  readonly dashboard: Address;
  readonly peers: readonly Address[];
  /** Where new machines get a certificate; undefined without certificates. */
  readonly join: Address | undefined;
}

export class VitalSigns {
  readonly #names: readonly string[];
  readonly #first = new Map<string, { readonly pid: number; readonly bytes: number }>();
  #committed = 0;
  #committedAtMs = performance.now();
  peakGrowthBytes = 0;
  slowestAnswerMs = 0;

  constructor(
    readonly cluster: FaultCluster,
    readonly job: WatchedJob,
    readonly ports: Ports,
    /** Of the worker in whose name the peers' ports are asked, if they ask for a certificate. */
    readonly asker: Credentials | undefined = undefined,
  ) {
    this.#names = [...cluster.coordinators, ...cluster.workers];
  }

  async begin(): Promise<void> {
    for (const name of this.#names) {
      const pid = await this.cluster.pid(name);
      this.#first.set(name, { pid, bytes: residentBytes(pid) });
    }
  }

  /** Throws an error that says what is wrong. */
  async check(): Promise<void> {
    const [exit] = this.cluster.exits;
    if (exit !== undefined) throw new Error(`a process ended: ${JSON.stringify(exit)}\n${this.cluster.log(exit.name)}`);
    for (const [name, { pid, bytes }] of this.#first) {
      const growth = residentBytes(pid) - bytes;
      this.peakGrowthBytes = Math.max(this.peakGrowthBytes, growth);
      if (growth > MOST_GROWTH_BYTES) throw new Error(`${name} has grown by ${Math.round(growth / 2 ** 20)} MiB`);
    }
    await this.#answersInTime('nodes', this.cluster.client.nodes());
    await this.#answersInTime('the dashboard', pageAnswer(this.ports.dashboard));
    for (const peer of this.ports.peers) await this.#answersInTime(`peer ${peer.port}`, peerAnswer(peer, this.asker));
    await this.#checkSteps();
  }

  /** As the coordinator says: what the job's watch says is late when this process is kept from running, and its connection is dropped. */
  async #checkSteps(): Promise<void> {
    const { committed, state } = await this.#answersInTime('job', this.cluster.client.get(this.job.job));
    const nowMs = performance.now();
    if (committed > this.#committed) {
      this.#committed = committed;
      this.#committedAtMs = nowMs;
    } else if (state !== 'finished' && nowMs - this.#committedAtMs > STEP_MS) {
      throw new Error(`no step in ${STEP_MS / 1000} s after ${this.#committed} steps:\n${this.job.story()}`);
    }
  }

  async #answersInTime<T>(what: string, answer: Promise<T>): Promise<T> {
    const startMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer of ${what} in ${ANSWER_MS / 1000} s`)), ANSWER_MS);
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
      this.slowestAnswerMs = Math.max(this.slowestAnswerMs, performance.now() - startMs);
    }
  }
}

async function pageAnswer({ host, port }: Address): Promise<void> {
  const answer = await fetch(`http://${host}:${port}/healthz`);
  if ((await answer.text()) !== 'ok\n') throw new Error(`the dashboard answers ${answer.status}`);
}

/**
 * A request for what nobody has; that it is refused is an answer. Resolves with the refusal when the whole call is refused, and rejects when
 * the connection ends without any.
 */
export function peerAnswer({ host, port }: Address, asker: Credentials | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    const unlooked = { rejectUnauthorized: false, servername: SERVER_NAME };
    const session =
      asker === undefined
        ? connectHttp2(`http://${host}:${port}`)
        : connectHttp2(`https://${host}:${port}`, { ...contextOptions(asker), ...unlooked });
    session.on('error', reject);
    session.on('close', () => reject(new Error(`peer ${port} closed the connection without an answer`)));
    const stream = session.request({ ':method': 'POST', ':path': PULL_PATH, te: 'trailers' });
    const end = (answer: string): void => {
      session.destroy();
      resolve(answer);
    };
    stream.on('error', reject);
    stream.once('data', () => end(''));
    stream.once('response', (headers) => {
      if (headers['grpc-status'] !== undefined) end(`${headers['grpc-status']} ${headers['grpc-message']}`);
    });
    const worker = asker?.identity.name ?? 'x';
    const name = { kind: 'partial', job: 'nobody', term: 1, generation: 1, step: 0, nodeLo: 0, nodeLength: 1 } as const;
    const place = { bucket: 0, segment: 0, segments: 1, offset: 0, length: 1 };
    const whole = { request: 1, ...name, ...place, worker, incarnation: 'x', sameHost: false };
    stream.write(withPrefix(serializePullRequest(whole)));
  });
}

function residentBytes(pid: number): number {
  const [, kilobytes = '0'] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}
