/** The live connection: it comes back by itself, gets what it missed, and says whether what is shown is live. */
import {
  DASHBOARD_VERSION,
  type PageAct,
  parseServerMessage,
  type ServerMessage,
  type ViewerRequest,
  type Visit,
} from '../shared/wire/dashboard.js';
import { applied, type Model, NO_MODEL } from './model.js';
import { askWho, logIn, logOut, readPageToken } from './visit.js';

/** The server says something every 2 s; after so long without anything the connection is taken to be dead. */
const SILENT_MS = 6_000;
const LOOK_MS = 500;
const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 4_000;
const ACT_MS = 15_000;
/** The page changes at most so often, however often messages come. */
const SHOW_MS = 50;

export type Liveness = 'connecting' | 'live' | 'lost';

export interface Shown {
  readonly model: Model;
  readonly liveness: Liveness;
  /** Since when it is not live, milliseconds since 1970. */
  readonly lostMs: number;
  /** The page is older than the server, or newer. */
  readonly outdated: boolean;
  /** As whom it looks; undefined before anybody was asked. */
  readonly visit: Visit | undefined;
}

type Listener = (shown: Shown) => void;

export class Connection {
  #model: Model = NO_MODEL;
  #liveness: Liveness = 'connecting';
  #lostMs = Date.now();
  #socket: WebSocket | undefined;
  #visit: Visit | undefined;
  #entering = false;
  #heardMs = 0;
  #waitMs = FIRST_WAIT_MS;
  #job: string | null = null;
  #token = '';
  #requests = 0;
  #showing = false;
  readonly #acts = new Map<number, (error: string) => void>();
  readonly #listener: Listener;

  constructor(listener: Listener) {
    this.#listener = listener;
    void this.#enter();
    setInterval(() => this.#look(), LOOK_MS);
    addEventListener('online', () => void this.#enter());
  }

  /** Looks at a job from now on, or at none. */
  watch(job: string | null): void {
    if (job === this.#job) return;
    this.#job = job;
    this.#model = { ...this.#model, job: undefined, missing: undefined };
    this.#ask();
    this.#show();
  }

  /** Resolves with what went wrong, or with an empty text. */
  async act(act: PageAct): Promise<string> {
    const socket = this.#socket;
    if (socket === undefined || this.#liveness !== 'live') return 'there is no connection to the coordinator';
    try {
      this.#token ||= await readPageToken();
    } catch {
      return 'the coordinator does not answer';
    }
    const request = ++this.#requests;
    return new Promise((done) => {
      const timer = setTimeout(() => this.#actDone(request, 'no answer; look what has become of it'), ACT_MS);
      this.#acts.set(request, (error) => {
        clearTimeout(timer);
        done(error);
      });
      send(socket, { ...act, request, token: this.#token });
    });
  }

  /** Resolves with what went wrong, or with an empty text. */
  async logIn(token: string): Promise<string> {
    const problem = await logIn(token);
    if (problem === '') await this.#enter();
    return problem;
  }

  async logOut(): Promise<void> {
    await logOut();
    location.reload();
  }

  /** Whoever is not let in is not connected: a WebSocket cannot say why. */
  async #enter(): Promise<void> {
    if (this.#socket !== undefined || this.#entering) return;
    this.#entering = true;
    try {
      this.#visit = await askWho();
      if (this.#visit.visitor !== null) this.#connect();
      else if (!this.#visit.takesTokens) this.#tryLater();
    } catch {
      this.#gone();
    } finally {
      this.#entering = false;
      this.#show();
    }
  }

  #connect(): void {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    this.#socket = socket;
    this.#heardMs = Date.now();
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket && typeof data === 'string') this.#received(parseServerMessage(data));
    };
    socket.onclose = () => this.#lost(socket);
  }

  #lost(socket: WebSocket): void {
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    this.#gone();
  }

  #gone(): void {
    this.#token = '';
    if (this.#liveness !== 'lost') this.#lostMs = Date.now();
    this.#liveness = 'lost';
    for (const request of [...this.#acts.keys()]) this.#actDone(request, 'the connection was lost');
    this.#show();
    this.#tryLater();
  }

  #tryLater(): void {
    setTimeout(() => void this.#enter(), this.#waitMs * (0.75 + Math.random() / 2));
    this.#waitMs = Math.min(MAX_WAIT_MS, this.#waitMs * 2);
  }

  #look(): void {
    const socket = this.#socket;
    if (socket === undefined || Date.now() - this.#heardMs < SILENT_MS) return;
    socket.close();
    // A dead connection may not tell that it is closed for a long time.
    this.#lost(socket);
  }

  #received(message: ServerMessage): void {
    this.#heardMs = Date.now();
    if (message.kind === 'hello') {
      const before = this.#model.hello;
      this.#model = applied(this.#model, message);
      this.#waitMs = FIRST_WAIT_MS;
      this.#liveness = 'live';
      this.#ask(before?.epoch);
    } else if (message.kind === 'act_done') {
      this.#actDone(message.request, message.error);
    } else {
      this.#model = applied(this.#model, message);
    }
    if (message.kind !== 'beat') this.#show();
  }

  /** `epoch`: the one to which the numbers of what is known belong. */
  #ask(epoch = this.#model.hello?.epoch): void {
    const { hello, cluster, job } = this.#model;
    if (this.#socket === undefined || hello === undefined || !hello.leads) return;
    const known = { cluster: cluster?.number ?? null, job: job?.number ?? null };
    const resume = epoch === hello.epoch ? { epoch, ...known } : null;
    send(this.#socket, { kind: 'watch', job: this.#job, resume });
  }

  #actDone(request: number, error: string): void {
    const done = this.#acts.get(request);
    this.#acts.delete(request);
    done?.(error);
  }

  #show(): void {
    if (this.#showing) return;
    this.#showing = true;
    setTimeout(() => {
      this.#showing = false;
      const outdated = this.#model.hello !== undefined && this.#model.hello.version !== DASHBOARD_VERSION;
      const visit = this.#visit;
      this.#listener({ model: this.#model, liveness: this.#liveness, lostMs: this.#lostMs, outdated, visit });
    }, SHOW_MS);
  }
}

function send(socket: WebSocket, request: ViewerRequest): void {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(request));
}
