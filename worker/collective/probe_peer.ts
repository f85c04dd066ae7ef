/** How fast bytes come from a peer: a few bounded reads of bytes that mean nothing, through its Peer service, by the code that pulls gradients. */
import type { FrameHeader } from './frame.js';
import { FrameReader } from './frame_reader.js';
import type { Security } from './http2/client_call.js';
import { PeerCall } from './peer_call.js';
import { MOST_PAYLOAD_BYTES, PROBE_BYTES } from './peer_service.js';

const LIMIT_MS = 5_000;
/** The best counts: both ends may have had something else to do. */
const READS = 3;

export interface ProbeOptions {
  /** host:port */
  readonly address: string;
  /** Who asks. */
  readonly worker: string;
  readonly incarnation: string;
  readonly signal: AbortSignal;
  /** Undefined: without TLS. */
  readonly security?: Security | undefined;
}

/** Bytes a second from the first chunk of a read to its last. Rejects with a reason of one line, after five seconds at the latest. */
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
  #reads = 0;
  /** Of the read that is under way. */
  #first: { readonly bytes: number; readonly ms: number } | undefined;
  #received = 0;
  #best = 0;

  constructor(
    private readonly options: ProbeOptions,
    private readonly done: (bytesPerSecond: number) => void,
    private readonly failed: (reason: string) => void,
  ) {}

  begin(): void {
    const { address, signal, security } = this.options;
    this.#timer = setTimeout(
      () => this.#fail(`it did not send ${READS * PROBE_BYTES} bytes in ${LIMIT_MS / 1000} s`),
      LIMIT_MS,
    );
    signal.addEventListener('abort', this.#stop, { once: true });
    const heard = {
      greeted: () => undefined,
      data: (bytes: Buffer) => this.#reader.push(bytes),
      broke: (reason: string) => this.#fail(reason),
    };
    this.#call = new PeerCall(address, heard, security);
    this.#ask();
  }

  #ask(): void {
    const { worker, incarnation } = this.options;
    this.#reads += 1;
    this.#first = undefined;
    this.#received = 0;
    this.#call?.send({
      ...{ request: this.#reads, kind: 'probe', job: '', term: 0, generation: 0, step: 0, nodeLo: 0, nodeLength: 0 },
      ...{ bucket: 0, segment: 0, segments: 0, offset: 0, length: PROBE_BYTES, worker, incarnation, sameHost: false },
    });
  }

  #arrived({ kind, status, length }: FrameHeader): void {
    if (kind !== 'probe' || status !== 'bytes') {
      this.#fail(`it answers with ${status}`);
      return;
    }
    const nowMs = performance.now();
    this.#received += length;
    // The time before the first chunk is that of the way there.
    this.#first ??= { bytes: length, ms: nowMs };
    if (this.#received < PROBE_BYTES) return;
    const { bytes, ms } = this.#first;
    // Clocks have a resolution.
    this.#best = Math.max(this.#best, (this.#received - bytes) / Math.max(1e-6, (nowMs - ms) / 1000));
    if (this.#reads < READS) {
      this.#ask();
      return;
    }
    this.#close();
    this.done(this.#best);
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
