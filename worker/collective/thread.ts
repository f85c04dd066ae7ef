/** The data plane's own thread: carries out the commands of the daemon's main thread, and serves the peers. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Credentials } from '../../shared/identity/credential_files.js';
import { keepFreedMemory } from './allocator.js';
import type { DataPlaneCommand, DataPlaneEvent, Peer } from './data_plane.js';
import { DropCounter } from './drop_counter.js';
import { JobExchange, type Surroundings } from './job_exchange.js';
import { hostHeader } from './peer_memory.js';
import { PeerSecurity } from './peer_security.js';
import { PeerServer } from './peer_server.js';
import { PeerStream, type Pull, type PullOwner } from './peer_stream.js';
import type { FromThread, ThreadOptions, ToThread } from './thread_messages.js';

class DataThread implements Surroundings {
  readonly #jobs = new Map<string, JobExchange>();
  /** By worker name. */
  readonly #streams = new Map<string, PeerStream>();
  readonly #server: PeerServer;
  readonly #security: PeerSecurity | undefined;
  readonly #drops = new DropCounter((line) => this.log('warn', line));

  constructor(
    private readonly options: ThreadOptions,
    private readonly post: (message: FromThread) => void,
  ) {
    const { incarnation, sameHost, credentials } = options;
    const servingOf = (job: string): JobExchange | undefined => this.#jobs.get(job);
    this.#security = credentials === undefined ? undefined : new PeerSecurity(credentials);
    const host = sameHost ? hostHeader() : '';
    this.#server = new PeerServer({ incarnation, host, servingOf, security: this.#security });
  }

  async start(): Promise<void> {
    const port = await this.#server.listen(this.options.host, this.options.port);
    this.emit({ kind: 'listening', port });
  }

  obey(command: DataPlaneCommand): void {
    if (command.kind === 'open_job') this.#open(command);
    else if (command.kind === 'close_job') this.#close(command.job);
    else this.#obeyInJob(command, this.#job(command.job));
  }

  #obeyInJob(command: Exclude<DataPlaneCommand, { readonly kind: 'open_job' | 'close_job' }>, job: JobExchange): void {
    switch (command.kind) {
      case 'start_generation':
        job.startGeneration(command);
        break;
      case 'stop_generation':
        job.stopGeneration();
        break;
      case 'publish_buckets':
        job.publishBuckets(command);
        break;
      case 'publish_partial':
        job.publishPartial(command);
        break;
      case 'drop_partials':
        job.dropPartials(command);
        break;
      case 'reduce':
        job.reduce(command);
        break;
      case 'fetch_reduced':
        job.fetchReduced(command);
        break;
      case 'publish_state':
        job.publishState(command);
        break;
      case 'fetch_state':
        job.fetchState(command);
        break;
    }
  }

  #open(command: Extract<DataPlaneCommand, { readonly kind: 'open_job' }>): void {
    this.#close(command.job);
    this.#jobs.set(command.job, new JobExchange(command, this));
  }

  #close(job: string): void {
    this.#jobs.get(job)?.close();
    this.#jobs.delete(job);
    this.wake(job);
    this.closeUnusedStreams();
  }

  #job(name: string): JobExchange {
    const job = this.#jobs.get(name);
    if (job === undefined) throw new Error(`job ${name} is not open`);
    return job;
  }

  want(peer: Peer, pulls: readonly Pull[]): void {
    const stream = this.#streams.get(peer.worker) ?? new PeerStream(peer, this.options, this.#drops, this.#security);
    this.#streams.set(peer.worker, stream);
    stream.want(pulls);
  }

  cancel(owner: PullOwner, peer?: Peer): void {
    for (const [worker, stream] of this.#streams)
      if (peer === undefined || peer.worker === worker) stream.cancel(owner);
  }

  closeUnusedStreams(): void {
    const used = [...this.#jobs.values()].flatMap(({ shelf }) => shelf.generation?.roster ?? []);
    for (const [worker, stream] of this.#streams) {
      const { incarnation, peerAddress } = stream.peer;
      if (
        used.some(
          (peer) => peer.worker === worker && peer.incarnation === incarnation && peer.peerAddress === peerAddress,
        )
      )
        continue;
      stream.close();
      this.#streams.delete(worker);
    }
  }

  wake(job: string, event?: string): void {
    if (event === undefined) this.#server.wakeAll(job);
    else this.#server.wake(job, event);
  }

  emit(event: DataPlaneEvent): void {
    this.post({ kind: 'event', event });
  }

  log(level: 'info' | 'warn', line: string): void {
    this.post({ kind: 'log', level, line });
  }

  /** Connections that are open stay so. */
  replaceCredentials(credentials: Credentials): void {
    this.#security?.replace(credentials);
    this.#server.certificatesChanged();
  }

  shutDown(): void {
    for (const job of this.#jobs.values()) job.close();
    this.closeUnusedStreams();
    this.#server.close();
    this.post({ kind: 'closed' });
  }
}

keepFreedMemory();
const port = parentPort;
if (port === null) throw new Error('thread.ts is the entry of a worker thread');
const options: ThreadOptions = workerData;
const thread = new DataThread(options, (message) => port.postMessage(message));
port.on('message', (message: ToThread) => {
  if (message.kind === 'command') thread.obey(message.command);
  else if (message.kind === 'credentials') thread.replaceCredentials(message.credentials);
  else if (message.kind === 'say_when_obeyed') port.postMessage({ kind: 'obeyed' } satisfies FromThread);
  else {
    thread.shutDown();
    port.close();
  }
});
await thread.start();
