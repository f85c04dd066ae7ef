/** The dashboard's server: pages, their live connection, /metrics, /healthz and /readyz. Only this folder knows HTTP and ws. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { hostOf } from '../../shared/address.js';
import { type ConnectionLimits, limitConnections } from '../../shared/connection_limit.js';
import type { Logger } from '../../shared/logger.js';
import type { Visit } from '../../shared/wire/dashboard.js';
import type { ReplyErrorCode } from '../core/command.js';
import type { CoordinatorEvent } from '../core/event.js';
import type { CoordinatorState } from '../core/state.js';
import type { AuditTrail } from '../io/audit_log.js';
import { type Access, accessFor, isOnlyLocal, isSecure, liveAddressOf, refusalOf, strictRefusalOf } from './access.js';
import { refuseUpgrade, send, sendJson, sendRefusal, sendText } from './answers.js';
import { type Audit, auditTo } from './audit.js';
import type { DashboardConfig } from './dashboard_config.js';
import { Hub, type KnownLeader, MAX_VIEWERS } from './hub.js';
import { logIn, logOut } from './login.js';
import { metricsText } from './metrics.js';
import { METRICS_TYPE } from './metrics_text.js';
import { type PageFile, readPageFiles } from './page_files.js';
import { PageRequests } from './page_requests.js';
import { PageTokens } from './page_token.js';
import { TokensFile } from './tokens_file.js';
import { plainAddress } from './trusted_proxies.js';
import type { Viewer, ViewerSocket } from './viewer.js';
import { type Admission, type Asking, type Visitor, Visitors } from './visitors.js';

const TICK_MS = 100;
const LOOP_LOOK_MS = 10;
const LOOP_PERIOD_MS = 5_000;
const FAILURE_LOG_MS = 60_000;
const MAX_REQUEST_BYTES = 4_096;
const MAX_HEADER_BYTES = 16_384;
/** Many pages come through one proxy. */
const CONNECTIONS: ConnectionLimits = { inAll: 256, perAddress: 160 };
const HEADERS_MS = 5_000;
const REQUEST_MS = 10_000;
/** Of a connection on which nothing moves: whoever asks has to read the answer. Live connections are asked for signs of life instead. */
const STILL_MS = 30_000;
/** So often it is looked for connections that are over those two times. */
const OVERDUE_LOOK_MS = 1_000;
const LIVE_PATH = '/live';

export interface DashboardOptions {
  readonly name: string;
  readonly config: DashboardConfig;
  /** Folder with the built page. */
  readonly pages: string;
  readonly state: CoordinatorState;
  readonly dispatch: (event: CoordinatorEvent) => void;
  readonly leader: () => KnownLeader | null;
  /** Asks etcd; within a bound. */
  readonly etcdAnswers: () => Promise<boolean>;
  readonly audit: AuditTrail;
  readonly log: Logger;
  /** A parameter for tests only. */
  readonly stillMs?: number;
}

export class Dashboard {
  readonly #options: DashboardOptions;
  readonly #files: ReadonlyMap<string, PageFile>;
  readonly #tokens = new PageTokens();
  readonly #requests: PageRequests;
  readonly #hub: Hub;
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_REQUEST_BYTES,
    perMessageDeflate: false,
    clientTracking: false,
    autoPong: false,
  });
  readonly #loopDelay = monitorEventLoopDelay({ resolution: LOOP_LOOK_MS });
  readonly #timers: readonly NodeJS.Timeout[];
  #loopDelaySeconds = 0;
  #failedMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<boolean> | undefined;
  readonly #tokensFile: TokensFile | undefined;
  readonly #audit: Audit;
  #access: Access = { hosts: new Set(), origins: new Set() };
  #visitors: Visitors;
  #url = '';

  /** Listens, and then answers. Throws if the page was not built, the tokens cannot be read or the address is taken. */
  static async start(options: DashboardOptions): Promise<Dashboard> {
    const { tokens } = options.config;
    const files = readPageFiles(options.pages);
    const tokensFile = tokens === undefined ? undefined : await TokensFile.open(tokens, options.log);
    const dashboard = new Dashboard(options, files, tokensFile);
    try {
      await dashboard.#listen();
    } catch (error) {
      dashboard.close();
      throw error;
    }
    return dashboard;
  }

  private constructor(
    options: DashboardOptions,
    files: ReadonlyMap<string, PageFile>,
    tokensFile: TokensFile | undefined,
  ) {
    this.#options = options;
    this.#tokensFile = tokensFile;
    this.#audit = auditTo(options.audit);
    this.#visitors = this.#visitorsAt(0);
    this.#files = files;
    // Later, so that a fault of the core is not taken for one of a page.
    this.#requests = new PageRequests((event) => void setImmediate(() => options.dispatch(event)));
    this.#hub = new Hub({
      name: options.name,
      state: options.state,
      leader: options.leader,
      requests: this.#requests,
      tokens: this.#tokens,
      audit: this.#audit,
      auditObjection: () => options.audit.objection,
      nowMs: () => performance.now(),
      wallMs: () => Date.now(),
    });
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: HEADERS_MS,
        requestTimeout: REQUEST_MS,
        connectionsCheckingInterval: OVERDUE_LOOK_MS,
      },
      (request, response) =>
        void this.#answer(request, response).catch((error: unknown) => {
          this.#failed(error);
          response.destroy();
        }),
    );
    this.#server.timeout = options.stillMs ?? STILL_MS;
    limitConnections(this.#server, CONNECTIONS);
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
    this.#requests.answer(request, '');
  }

  replyNode(request: string): void {
    this.#requests.answer(request, '');
  }

  replyError(request: string, _code: ReplyErrorCode, message: string): void {
    this.#requests.answer(request, message);
  }

  publish(job: string): void {
    this.#hub.jobChanged(job);
  }

  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#tokensFile?.close();
    this.#loopDelay.disable();
    this.#hub.close();
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #listen(): Promise<void> {
    const { config } = this.#options;
    const host = hostOf(config.listen);
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(Number(config.listen.slice(host.length + 1)), host.replace(/^\[|\]$/g, ''), () => {
        this.#server.off('error', reject);
        this.#server.on('error', (error) => this.#options.log.warn('dashboard', { error: String(error) }));
        const port = boundPortOf(this.#server.address());
        this.#access = accessFor(host, port, hostname(), config);
        this.#visitors = this.#visitorsAt(port);
        const reached = `http://${host === '0.0.0.0' || host === '[::]' ? hostname() : host}:${port}`;
        this.#url = config.origins[0] ?? reached;
        resolve();
      });
    });
  }

  #visitorsAt(port: number): Visitors {
    const { config } = this.#options;
    return new Visitors({
      tokens: this.#tokensFile,
      proxy: config.proxy,
      onlyLocal: isOnlyLocal(hostOf(config.listen), config),
      port,
      nowMs: () => performance.now(),
      wallMs: () => Date.now(),
    });
  }

  #askingOf({ headers, socket }: IncomingMessage): Asking {
    return this.#visitors.askingOf(headers, plainAddress(socket.remoteAddress ?? ''));
  }

  /** Whether who asks is let in; a wrong token is noted, of which each client has only so many. */
  #admit(asking: Asking): Admission {
    const admission = this.#visitors.of(asking);
    const showedToken = this.#visitors.takesTokens && asking.headers.authorization !== undefined;
    if ('refusal' in admission && admission.refusal.status === 401 && showedToken) {
      this.#audit({ act: 'log in', who: '', role: '', from: asking.client, outcome: admission.refusal.reason });
    }
    return admission;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').split('?', 1)[0] ?? '';
    const isPost = request.method === 'POST' && (path === '/login' || path === '/logout');
    const refusal = isPost ? strictRefusalOf(this.#access, request.headers) : refusalOf(this.#access, request.headers);
    if (refusal !== undefined) sendText(response, 403, refusal);
    else if (isPost) await this.#answerPost(request, response, path);
    else if (request.method !== 'GET' && request.method !== 'HEAD') sendText(response, 405, 'only GET is answered');
    else await this.#answerPath(request, response, path);
  }

  async #answerPost(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    const secure = isSecure(this.#access, askedHostOf(request));
    const options = { visitors: this.#visitors, audit: this.#audit, secure };
    if (path === '/login') await logIn(request, response, this.#askingOf(request), options);
    else logOut(response, options);
  }

  async #answerPath(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    switch (path) {
      case '/metrics':
        this.#ifLetIn(request, response, () => send(response, 200, METRICS_TYPE, Buffer.from(this.#metrics())));
        break;
      case '/healthz':
        sendText(response, 200, 'ok');
        break;
      case '/readyz':
        await this.#ready(response);
        break;
      case '/who':
        sendJson(response, this.#visitOf(request));
        break;
      case '/token':
        this.#ifLetIn(request, response, () => sendText(response, 200, this.#tokens.issue()));
        break;
      default:
        this.#page(request, response, path);
    }
  }

  #ifLetIn(request: IncomingMessage, response: ServerResponse, answer: () => void): void {
    const admission = this.#admit(this.#askingOf(request));
    if ('refusal' in admission) sendRefusal(response, admission.refusal);
    else answer();
  }

  /** What the page must know before it asks for anything. */
  #visitOf(request: IncomingMessage): Visit {
    const admission = this.#admit(this.#askingOf(request));
    if ('refusal' in admission) {
      return { visitor: null, takesTokens: this.#visitors.takesTokens, reason: admission.refusal.reason };
    }
    const { name, role, loggedIn } = admission.visitor;
    return { visitor: { name, role, loggedIn }, takesTokens: this.#visitors.takesTokens, reason: '' };
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
      send(response, known ? 304 : 200, file.type, known ? Buffer.alloc(0) : file.bytes, this.#liveAddress(request));
    }
  }

  #liveAddress(request: IncomingMessage): string {
    return liveAddressOf(this.#access, askedHostOf(request));
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
    if (strictRefusalOf(this.#access, request.headers) !== undefined) {
      refuseUpgrade(socket, 403);
      return;
    }
    const asking = this.#askingOf(request);
    const admission = this.#admit(asking);
    if ('refusal' in admission) refuseUpgrade(socket, admission.refusal.status);
    else if (request.url !== LIVE_PATH) refuseUpgrade(socket, 404);
    else if (this.#hub.viewers >= MAX_VIEWERS) refuseUpgrade(socket, 503);
    else {
      const { visitor } = admission;
      this.#sockets.handleUpgrade(request, socket, head, (live) => this.#connected(live, visitor, asking.client));
    }
  }

  #connected(socket: WebSocket, visitor: Visitor, address: string): void {
    socket.on('error', () => undefined);
    const live: ViewerSocket = {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (message) => socket.send(message, { binary: false }, () => undefined),
      ping: () => socket.ping(undefined, undefined, () => undefined),
      close: (code, reason) => socket.close(code, reason),
      terminate: () => socket.terminate(),
    };
    const viewer = this.#hub.enter(live, visitor, address);
    socket.on('message', (message) => this.#asked(viewer, String(message)));
    const pong = (data: Buffer) => socket.pong(data, undefined, () => undefined);
    socket.on('ping', (data) => viewer.answerPing(performance.now(), () => pong(data)));
    socket.on('pong', () => viewer.heard(performance.now()));
    socket.on('close', () => this.#hub.leave(viewer));
  }
}

function boundPortOf(address: AddressInfo | string | null): number {
  return address === null || typeof address === 'string' ? 0 : address.port;
}

function askedHostOf(request: IncomingMessage): string {
  return request.headers.host?.toLowerCase() ?? '';
}
