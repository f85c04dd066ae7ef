/** The dashboard's server: pages, their live connection, /metrics, /healthz and /readyz. Only this folder knows HTTP and ws. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Logger } from '../../shared/logger.js';
import type { ReplyErrorCode } from '../core/command.js';
import type { CoordinatorEvent } from '../core/event.js';
import type { CoordinatorState } from '../core/state.js';
import { type Access, accessFor, refusalOf, upgradeRefusalOf } from './access.js';
import { Cancels } from './cancels.js';
import { Hub, type KnownLeader, MAX_VIEWERS } from './hub.js';
import { metricsText } from './metrics.js';
import { METRICS_TYPE } from './metrics_text.js';
import { type PageFile, readPageFiles } from './page_files.js';
import { PageTokens } from './page_token.js';
import type { Viewer } from './viewer.js';

const TICK_MS = 100;
const LOOP_LOOK_MS = 10;
const LOOP_PERIOD_MS = 5_000;
const FAILURE_LOG_MS = 60_000;
const MAX_REQUEST_BYTES = 4_096;
const MAX_HEADER_BYTES = 16_384;
const MAX_CONNECTIONS = 256;
const HEADERS_MS = 5_000;
const REQUEST_MS = 10_000;
const LIVE_PATH = '/live';

export interface DashboardOptions {
  readonly name: string;
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** Folder with the built page. */
  readonly pages: string;
  readonly state: CoordinatorState;
  readonly dispatch: (event: CoordinatorEvent) => void;
  readonly leader: () => KnownLeader | null;
  /** Asks etcd; within a bound. */
  readonly etcdAnswers: () => Promise<boolean>;
  readonly log: Logger;
}

export class Dashboard {
  readonly #options: DashboardOptions;
  readonly #files: ReadonlyMap<string, PageFile>;
  readonly #tokens = new PageTokens();
  readonly #cancels: Cancels;
  readonly #hub: Hub;
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_REQUEST_BYTES,
    perMessageDeflate: false,
    clientTracking: false,
  });
  readonly #loopDelay = monitorEventLoopDelay({ resolution: LOOP_LOOK_MS });
  readonly #timers: readonly NodeJS.Timeout[];
  #loopDelaySeconds = 0;
  #failedMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<boolean> | undefined;
  #access: Access = { hosts: new Set() };
  #url = '';

  /** Listens, and then answers. Throws if the page was not built or the address is taken. */
  static async start(options: DashboardOptions): Promise<Dashboard> {
    const dashboard = new Dashboard(options);
    try {
      await dashboard.#listen();
    } catch (error) {
      dashboard.close();
      throw error;
    }
    return dashboard;
  }

  private constructor(options: DashboardOptions) {
    this.#options = options;
    this.#files = readPageFiles(options.pages);
    // Later, so that a fault of the core is not taken for one of a page.
    this.#cancels = new Cancels((event) => void setImmediate(() => options.dispatch(event)));
    this.#hub = new Hub({
      name: options.name,
      state: options.state,
      leader: options.leader,
      cancels: this.#cancels,
      tokens: this.#tokens,
      nowMs: () => performance.now(),
      wallMs: () => Date.now(),
    });
    this.#server = createServer(
      { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS },
      (request, response) =>
        void this.#answer(request, response).catch((error: unknown) => {
          this.#failed(error);
          response.destroy();
        }),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.#loopDelay.enable();
    this.#timers = [setInterval(() => this.#tick(), TICK_MS), setInterval(() => this.#readLoopDelay(), LOOP_PERIOD_MS)];
  }

  /** Where a browser on the network finds it, "http://host:port". */
  get url(): string {
    return this.#url;
  }

  /** For Requests, of which this answers those of its pages. */
  reply(request: string): void {
    this.#cancels.answer(request, '');
  }

  replyNode(request: string): void {
    this.#cancels.answer(request, '');
  }

  replyError(request: string, _code: ReplyErrorCode, message: string): void {
    this.#cancels.answer(request, message);
  }

  publish(job: string): void {
    this.#hub.jobChanged(job);
  }

  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#loopDelay.disable();
    this.#hub.close();
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #listen(): Promise<void> {
    const { listen } = this.#options;
    const colon = listen.lastIndexOf(':');
    const host = listen.slice(0, colon);
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(Number(listen.slice(colon + 1)), host.replace(/^\[|\]$/g, ''), () => {
        this.#server.off('error', reject);
        this.#server.on('error', (error) => this.#options.log.warn('dashboard', { error: String(error) }));
        const port = portOf(this.#server.address());
        this.#access = accessFor(host, port, hostname());
        this.#url = `http://${host === '0.0.0.0' || host === '[::]' ? hostname() : host}:${port}`;
        resolve();
      });
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const refusal = refusalOf(this.#access, request.headers);
    if (refusal !== undefined) sendText(response, 403, refusal);
    else if (request.method !== 'GET' && request.method !== 'HEAD') sendText(response, 405, 'only GET is answered');
    else await this.#answerPath(request, response, (request.url ?? '').split('?', 1)[0] ?? '');
  }

  async #answerPath(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    switch (path) {
      case '/metrics':
        send(response, 200, METRICS_TYPE, Buffer.from(this.#metrics()));
        break;
      case '/healthz':
        sendText(response, 200, 'ok');
        break;
      case '/readyz':
        await this.#ready(response);
        break;
      case '/token':
        sendText(response, 200, this.#tokens.issue());
        break;
      default:
        this.#page(request, response, path);
    }
  }

  async #ready(response: ServerResponse): Promise<void> {
    if (this.#options.state.leading !== undefined) sendText(response, 200, 'leads');
    else if (await this.#etcdAnswers()) sendText(response, 200, 'stands by');
    else sendText(response, 503, 'etcd does not answer');
  }

  /** However many ask, etcd is asked once at a time. */
  #etcdAnswers(): Promise<boolean> {
    this.#asking ??= this.#options.etcdAnswers().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  #page(request: IncomingMessage, response: ServerResponse, path: string): void {
    const elsewhere = path === '/' ? this.#leaderElsewhere() : undefined;
    const file = this.#files.get(path);
    if (elsewhere !== undefined) {
      response.setHeader('Location', elsewhere);
      sendText(response, 307, `${elsewhere} leads`);
    } else if (file === undefined) {
      sendText(response, 404, 'there is no such page');
    } else {
      response.setHeader('ETag', file.etag);
      const known = request.headers['if-none-match'] === file.etag;
      send(response, known ? 304 : 200, file.type, known ? Buffer.alloc(0) : file.bytes, request.headers.host);
    }
  }

  /** The leader's page, while another leads and it is known where its page is. */
  #leaderElsewhere(): string | undefined {
    if (this.#options.state.leading !== undefined) return undefined;
    const leader = this.#options.leader();
    if (leader === null || leader.name === this.#options.name || leader.dashboard === null) return undefined;
    return `${leader.dashboard}/`;
  }

  #tick(): void {
    try {
      this.#hub.tick();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Pages are not worth a coordinator: what goes wrong here is said now and then, and training goes on. */
  #failed(error: unknown): void {
    const nowMs = performance.now();
    if (nowMs - this.#failedMs < FAILURE_LOG_MS) return;
    this.#failedMs = nowMs;
    this.#options.log.error('dashboard', { error: error instanceof Error ? error.stack : String(error) });
  }

  #asked(viewer: Viewer, text: string): void {
    try {
      this.#hub.asked(viewer, text);
    } catch (error) {
      this.#failed(error);
      viewer.end();
    }
  }

  #metrics(): string {
    this.#hub.readHistories();
    return metricsText({
      state: this.#options.state,
      histories: this.#hub.histories,
      wallMs: Date.now(),
      loopDelaySeconds: this.#loopDelaySeconds,
      viewers: this.#hub.viewers,
      laggingViewers: this.#hub.laggingViewers,
    });
  }

  #readLoopDelay(): void {
    this.#loopDelaySeconds = Math.max(0, this.#loopDelay.percentile(99) / 1e9 - LOOP_LOOK_MS / 1000);
    this.#loopDelay.reset();
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined);
    const refusal = upgradeRefusalOf(this.#access, request.headers);
    if (refusal !== undefined) refuseUpgrade(socket, '403 Forbidden');
    else if (request.url !== LIVE_PATH) refuseUpgrade(socket, '404 Not Found');
    else if (this.#hub.viewers >= MAX_VIEWERS) refuseUpgrade(socket, '503 Service Unavailable');
    else this.#sockets.handleUpgrade(request, socket, head, (live) => this.#connected(live));
  }

  #connected(socket: WebSocket): void {
    socket.on('error', () => undefined);
    const viewer = this.#hub.enter({
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (message) => socket.send(message, { binary: false }, () => undefined),
      ping: () => socket.ping(undefined, undefined, () => undefined),
      close: (code, reason) => socket.close(code, reason),
      terminate: () => socket.terminate(),
    });
    socket.on('message', (message) => this.#asked(viewer, String(message)));
    socket.on('pong', () => viewer.heard(performance.now()));
    socket.on('close', () => this.#hub.leave(viewer));
  }
}

function portOf(address: AddressInfo | string | null): number {
  return address === null || typeof address === 'string' ? 0 : address.port;
}

/** `host`: as the browser named it, checked; some browsers do not count a WebSocket as 'self'. */
function send(response: ServerResponse, status: number, type: string, body: Buffer, host?: string): void {
  const live = host === undefined ? '' : ` ws://${host}`;
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': body.length,
    'Cache-Control': 'no-cache',
    'Content-Security-Policy':
      `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'${live}; ` +
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

function sendText(response: ServerResponse, status: number, body: string): void {
  send(response, status, 'text/plain; charset=utf-8', Buffer.from(`${body}\n`));
}

function refuseUpgrade(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
