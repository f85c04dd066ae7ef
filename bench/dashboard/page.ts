/** One page as the coordinator sees it: a WebSocket that looks at the cluster and at a job, and reads all that it is given. */
import { WebSocket } from 'ws';
import { parseServerMessage, type ServerMessage, type ViewerRequest } from '../../shared/wire/dashboard.js';

export class Page {
  messages = 0;
  bytes = 0;
  missed = 0;
  silentMs = 0;
  /** It has what it asked for. */
  readonly shown: Promise<void>;
  readonly #socket: WebSocket;
  readonly #job: string;
  #clusterNumber: number | undefined;
  #jobNumber: number | undefined;
  #heardMs = performance.now();
  #closed = false;
  #show: () => void = () => undefined;

  constructor(url: string, job: string) {
    this.#job = job;
    this.shown = new Promise((resolve) => {
      this.#show = resolve;
    });
    this.#socket = new WebSocket(`${url.replace('http', 'ws')}/live`, { headers: { origin: url } });
    this.#socket.on('message', (data) => this.#hear(String(data)));
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => {
      this.#closed = true;
    });
  }

  get lost(): boolean {
    return this.#closed;
  }

  close(): void {
    this.#socket.terminate();
  }

  #hear(text: string): void {
    const nowMs = performance.now();
    if (this.messages > 0) this.silentMs = Math.max(this.silentMs, nowMs - this.#heardMs);
    this.#heardMs = nowMs;
    this.messages += 1;
    this.bytes += text.length;
    this.#note(parseServerMessage(text));
  }

  #note(message: ServerMessage): void {
    switch (message.kind) {
      case 'hello':
        this.#watch();
        break;
      case 'cluster_snapshot':
        this.#clusterNumber = message.number;
        break;
      case 'cluster_delta':
        if (message.number !== (this.#clusterNumber ?? 0) + 1) this.missed += 1;
        this.#clusterNumber = message.number;
        break;
      case 'job_snapshot':
        this.#jobNumber = message.number;
        this.#show();
        break;
      case 'job_delta':
        if (message.number !== (this.#jobNumber ?? 0) + 1) this.missed += 1;
        this.#jobNumber = message.number;
        break;
      default:
        break;
    }
  }

  #watch(): void {
    const request: ViewerRequest = { kind: 'watch', job: this.#job, resume: null };
    this.#socket.send(JSON.stringify(request));
  }
}
