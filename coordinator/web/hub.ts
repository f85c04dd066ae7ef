/**
 * All pages that look, and what they look at. The core's events only leave a mark here (jobChanged); all work is done by tick(), ten
 * times a second, and grows with what is looked at, not with what happens.
 */
import { nanoid } from 'nanoid';
import { DASHBOARD_VERSION, type Hello, type ServerMessage, type ViewerRequest } from '../../shared/wire/dashboard.js';
import type { CoordinatorState } from '../core/state.js';
import { eventOfAct, refusalOfAct, subjectOfAct } from './acts.js';
import type { Audit } from './audit.js';
import { Channel } from './channel.js';
import { ClusterSource } from './cluster_source.js';
import { Histories } from './histories.js';
import { JobSource } from './job_source.js';
import type { PageRequests } from './page_requests.js';
import type { PageTokens } from './page_token.js';
import { VIEWER_LIMITS, Viewer, type ViewerLimits, type ViewerSocket } from './viewer.js';
import { parseViewerRequest } from './viewer_request.js';
import type { Visitor } from './visitors.js';

const BEAT_MS = 2_000;
const ALIVE_MS = 5_000;
/** A channel without pages is kept for so long, for those that come back. */
const KEPT_MS = 30_000;
export const MAX_VIEWERS = 64;
/** Every page looks at one job; the others are kept for those that come back. */
const MAX_JOB_CHANNELS = MAX_VIEWERS + 32;

export interface KnownLeader {
  readonly name: string;
  readonly dashboard: string | null;
}

export interface HubOptions {
  readonly name: string;
  readonly state: CoordinatorState;
  readonly leader: () => KnownLeader | null;
  readonly requests: PageRequests;
  readonly tokens: PageTokens;
  readonly audit: Audit;
  /** Why nothing may be changed now: it could not be written down. */
  readonly auditObjection: () => string | undefined;
  /** Milliseconds that never go back. */
  readonly nowMs: () => number;
  /** Milliseconds since 1970, as in the times of events. */
  readonly wallMs: () => number;
  readonly limits?: ViewerLimits;
}

interface JobChannel {
  readonly channel: Channel;
  /** When it was last looked at. */
  usedMs: number;
}

export class Hub {
  readonly histories = new Histories();
  readonly #options: HubOptions;
  readonly #viewers = new Set<Viewer>();
  readonly #jobChannels = new Map<string, JobChannel>();
  /** Jobs with events that have not been read. */
  readonly #dirty = new Set<string>();
  #cluster: { readonly channel: Channel; readonly source: ClusterSource };
  #epoch = nanoid();
  #term: number | undefined;
  #lastHello = '';
  /** Above all numbers of the job channels that were dropped. */
  #usedNumbers = 0;
  #viewedMs = 0;
  #beatMs = 0;
  #aliveMs = 0;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#cluster = this.#newCluster();
  }

  get viewers(): number {
    return this.#viewers.size;
  }

  get laggingViewers(): number {
    return [...this.#viewers].filter((viewer) => viewer.lags).length;
  }

  /** Called for every event of the core: constant work. */
  jobChanged(job: string): void {
    this.#dirty.add(job);
  }

  /** `address`: of the other end. */
  enter(socket: ViewerSocket, visitor: Visitor, address: string): Viewer {
    const { limits = VIEWER_LIMITS, nowMs } = this.#options;
    const viewer = new Viewer({ socket, limits, visitor, address, nowMs: nowMs() });
    this.#viewers.add(viewer);
    viewer.say(Buffer.from(this.#hello()));
    return viewer;
  }

  leave(viewer: Viewer): void {
    this.#viewers.delete(viewer);
  }

  asked(viewer: Viewer, text: string): void {
    const nowMs = this.#options.nowMs();
    viewer.heard(nowMs);
    if (!viewer.mayAsk(nowMs)) return;
    const request = parseViewerRequest(text);
    if (request === undefined) viewer.refuse('this is not a request');
    else if (request.kind === 'watch') this.#watch(viewer, request);
    else this.#act(viewer, request);
  }

  tick(): void {
    const nowMs = this.#options.nowMs();
    this.#noticeLeadership();
    if (this.#term !== undefined) {
      this.readHistories();
      this.#advanceAll(nowMs);
    }
    for (const viewer of this.#viewers) viewer.catchUp(() => Buffer.from(this.#hello()));
    this.#beat(nowMs);
    this.#checkAlive(nowMs);
    this.#dropUnused(nowMs);
  }

  /** Reads what the core has added; before a scrape of /metrics, too. */
  readHistories(): void {
    const { jobs } = this.#options.state;
    for (const job of this.#dirty) {
      const run = jobs.get(job);
      if (run !== undefined) this.histories.read(run, jobs);
      this.#cluster.source.jobChanged(job);
    }
    this.#dirty.clear();
  }

  close(): void {
    for (const viewer of this.#viewers) viewer.end();
    this.#viewers.clear();
  }

  #newCluster() {
    const { state, nowMs, wallMs } = this.#options;
    const watched = () => this.#jobChannels.keys();
    const source = new ClusterSource({ state, histories: this.histories, watched, nowMs, wallMs });
    return { source, channel: new Channel({ source, label: {}, kind: 'cluster' }) };
  }

  /** Another term is another world: what was known belongs to the one before. */
  #noticeLeadership(): void {
    const term = this.#options.state.leading?.term;
    if (term !== this.#term) {
      this.#term = term;
      this.#epoch = nanoid();
      this.histories.clear();
      this.#jobChannels.clear();
      this.#cluster = this.#newCluster();
      this.#dirty.clear();
      for (const job of this.#options.state.jobs.keys()) this.#dirty.add(job);
      for (const viewer of this.#viewers) viewer.leaveAll();
      if (term === undefined) this.#options.requests.abandon();
    }
    const hello = this.#hello();
    if (hello === this.#lastHello) return;
    this.#lastHello = hello;
    for (const viewer of this.#viewers) viewer.say(Buffer.from(hello));
  }

  #hello(): string {
    const { name, leader, state } = this.#options;
    const hello: Hello = {
      kind: 'hello',
      version: DASHBOARD_VERSION,
      epoch: this.#epoch,
      coordinator: name,
      leads: this.#term !== undefined,
      term: state.leading?.term ?? 0,
      leader: leader(),
    };
    return JSON.stringify(hello);
  }

  #watch(viewer: Viewer, { job, resume }: Extract<ViewerRequest, { kind: 'watch' }>): void {
    if (this.#term === undefined) return;
    const known = resume?.epoch === this.#epoch ? resume : undefined;
    const { channel } = this.#cluster;
    if (!viewer.watches(channel)) viewer.watch(channel, known?.cluster ?? null);
    const wanted = job === null ? undefined : this.#jobChannel(job);
    for (const other of this.#jobChannels.values()) if (other !== wanted) viewer.leave(other.channel);
    if (job !== null && wanted === undefined)
      this.#say(viewer, { kind: 'job_missing', job, reason: this.#whyNot(job) });
    else if (wanted !== undefined && !viewer.watches(wanted.channel)) viewer.watch(wanted.channel, known?.job ?? null);
  }

  #jobChannel(job: string): JobChannel | undefined {
    const known = this.#jobChannels.get(job);
    if (known !== undefined) return known;
    const { jobs } = this.#options.state;
    const run = jobs.get(job);
    if (run === undefined) return undefined;
    const history = this.histories.read(run, jobs);
    if (history === undefined) return undefined;
    const source = new JobSource(this.#options.state, run, history);
    const channel = new Channel({ source, label: { job }, kind: 'job', after: this.#usedNumbers });
    const made = { channel, usedMs: this.#options.nowMs() };
    if (this.#jobChannels.size >= MAX_JOB_CHANNELS) this.#dropOldest();
    this.#jobChannels.set(job, made);
    return made;
  }

  #whyNot(job: string): string {
    return this.#options.state.jobs.has(job)
      ? 'So many jobs run that there is no room for the course of this one.'
      : 'There is no such job.';
  }

  #act(viewer: Viewer, { request, token, ...act }: Exclude<ViewerRequest, { kind: 'watch' }>): void {
    const { state, tokens, requests, audit, auditObjection } = this.#options;
    const { visitor, address } = viewer;
    const { name: who, role } = visitor;
    const done = (error: string) => {
      audit({ act: act.kind, who, role, from: address, on: subjectOfAct(act), outcome: error });
      this.#say(viewer, { kind: 'act_done', request, error });
    };
    const refusal = refusalOfAct(state, visitor, act) ?? auditObjection();
    if (refusal !== undefined) done(refusal);
    else if (!tokens.allows(token)) done('this page is older than the coordinator: reload it');
    else if (this.#term === undefined) done('this coordinator does not lead');
    else requests.begin((id) => eventOfAct(act, who, id), done);
  }

  #say(viewer: Viewer, message: ServerMessage): void {
    if (this.#viewers.has(viewer)) viewer.say(Buffer.from(JSON.stringify(message)));
  }

  /** While nobody looks, and nobody has looked a moment ago, nothing is made of what has changed. */
  #advanceAll(nowMs: number): void {
    if (this.#viewers.size > 0) this.#viewedMs = nowMs;
    if (nowMs - this.#viewedMs > KEPT_MS) return;
    this.#advance(this.#cluster.channel);
    for (const one of this.#jobChannels.values()) {
      if (this.#isWatched(one.channel)) one.usedMs = nowMs;
      this.#advance(one.channel);
    }
  }

  #advance(channel: Channel): void {
    const message = channel.advance();
    if (message === undefined) return;
    for (const viewer of this.#viewers) viewer.deliver(channel, message);
  }

  #beat(nowMs: number): void {
    if (nowMs - this.#beatMs < BEAT_MS) return;
    this.#beatMs = nowMs;
    const beat: ServerMessage = { kind: 'beat' };
    const bytes = Buffer.from(JSON.stringify(beat));
    for (const viewer of this.#viewers) viewer.say(bytes);
  }

  #checkAlive(nowMs: number): void {
    if (nowMs - this.#aliveMs < ALIVE_MS) return;
    this.#aliveMs = nowMs;
    for (const viewer of this.#viewers) {
      if (!viewer.visitor.isLetIn()) viewer.refuse('log in again');
      else if (!viewer.checkAlive(nowMs)) this.#viewers.delete(viewer);
    }
  }

  #dropUnused(nowMs: number): void {
    for (const [job, one] of this.#jobChannels) if (nowMs - one.usedMs > KEPT_MS) this.#drop(job, one.channel);
  }

  /** Of those at which nobody looks. There are some: a page looks at one job only. */
  #dropOldest(): void {
    const unused = [...this.#jobChannels].filter(([, { channel }]) => !this.#isWatched(channel));
    const oldest = unused.sort(([, left], [, right]) => left.usedMs - right.usedMs)[0];
    if (oldest !== undefined) this.#drop(oldest[0], oldest[1].channel);
  }

  #drop(job: string, channel: Channel): void {
    this.#usedNumbers = Math.max(this.#usedNumbers, channel.number + 1);
    this.#jobChannels.delete(job);
  }

  #isWatched(channel: Channel): boolean {
    return [...this.#viewers].some((viewer) => viewer.watches(channel));
  }
}
