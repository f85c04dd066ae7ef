/** How fast bytes come from a peer: one bounded read of bytes that mean nothing, through its Peer service, by the code that pulls gradients. */
import type { FrameHeader } from './frame.js';
import { FrameReader } from './frame_reader.js';
import { PeerCall } from './peer_call.js';
import { MOST_PAYLOAD_BYTES, PROBE_BYTES } from './peer_service.js';

const LIMIT_MS = 5_000;

export interface ProbeOptions {
  /** host:port */
  readonly address: string;
  /** Who asks. */
  readonly worker: string;
  readonly incarnation: string;
  readonly signal: AbortSignal;
}

/** Bytes a second from the first chunk to the last. Rejects with a reason of one line, after five seconds at the latest. */
export function probePeer(options: ProbeOptions): Promise<number> {
  return new Promise((resolve, reject) => new Probe(options, resolve, (reason) => reject(new Error(reason))).begin());
}

class Probe {
  readonly #scratch = Buffer.allocUnsafe(MOST_PAYLOAD_BYTES);
  readonly #reader = new FrameReader(MOST_PAYLOAD_BYTES, {
    memoryFor: ({ length }) => this.#scratch.subarray(0, length),
    frameArrived: (header) => this.#arrived(header),
    frameRefused: (reason) => this.#fail(`a frame of it is bad (${reason})`),
  });
  readonly #stop = (): void => this.#fail('it was stopped');
  #call: PeerCall | undefined;
  #timer: NodeJS.Timeout | undefined;
  #first: { readonly bytes: number; readonly ms: number } | undefined;
  #received = 0;

  constructor(
    private readonly options: ProbeOptions,
    private readonly done: (bytesPerSecond: number) => void,
    private readonly failed: (reason: string) => void,
  ) {}

  begin(): void {
    const { address, worker, incarnation, signal } = this.options;
    this.#timer = setTimeout(() => this.#fail(`${this.#received} bytes came in ${LIMIT_MS / 1000} s`), LIMIT_MS);
    signal.addEventListener('abort', this.#stop, { once: true });
    this.#call = new PeerCall(address, {
      greeted: () => undefined,
      data: (bytes) => this.#reader.push(bytes),
      broke: (reason) => this.#fail(reason),
    });
    this.#call.send({
      ...{ request: 1, kind: 'probe', job: '', term: 0, generation: 0, step: 0, nodeLo: 0, nodeLength: 0, bucket: 0 },
      ...{ segment: 0, segments: 0, offset: 0, length: PROBE_BYTES, worker, incarnation, sameHost: false },
    });
  }

  #arrived({ kind, status, length }: FrameHeader): void {
    if (kind !== 'probe' || status !== 'bytes') {
      this.#fail(`it answers with ${status}`);
      return;
    }
    const nowMs = performance.now();
    this.#received += length;
    // The time before the first chunk is that of the connection.
    this.#first ??= { bytes: length, ms: nowMs };
    if (this.#received < PROBE_BYTES) return;
    this.#close();
    const { bytes, ms } = this.#first;
    // Clocks have a resolution.
    this.done((this.#received - bytes) / Math.max(1e-6, (nowMs - ms) / 1000));
  }

  #fail(reason: string): void {
    this.#close();
    this.failed(reason);
  }

  #close(): void {
    clearTimeout(this.#timer);
    this.options.signal.removeEventListener('abort', this.#stop);
    this.#reader.end();
    this.#call?.close();
  }
}
