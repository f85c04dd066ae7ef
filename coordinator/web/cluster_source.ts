/** The jobs, the nodes and where their time went, for the cluster's channel. */
import type { ClusterDelta, ClusterSnapshot, JobRow, NodeRow, UsageRow } from '../../shared/wire/dashboard.js';
import type { CoordinatorState, JobRun } from '../core/state.js';
import { hasEnded } from '../core/views.js';
import type { ChannelSource } from './channel.js';
import type { Histories } from './histories.js';
import { RowChanges } from './row_changes.js';
import { jobRow, nodeRows, usageRow } from './rows.js';

/** Jobs are shown as long as there are no more than these: of those that have ended the newest, of the open ones first those that run. */
const MAX_ENDED_JOBS = 300;
const MAX_OPEN_JOBS = 1_000;
/** What the core does not announce, such as the reason why a job waits, is looked for so often. */
const LOOK_MS = 1_000;
/** A look at all workers costs about a microsecond a worker, and is made the more rarely the more there are. */
const NODES_MS = 100;
const MAX_NODES_MS = 1_000;

export interface ClusterSourceOptions {
  readonly state: CoordinatorState;
  readonly histories: Histories;
  /** Jobs at which pages look: they are shown, however long ago they ended. */
  readonly watched: () => Iterable<string>;
  /** Milliseconds that never go back. */
  readonly nowMs: () => number;
  /** Milliseconds since 1970, as in the times of events. */
  readonly wallMs: () => number;
}

export class ClusterSource implements ChannelSource {
  readonly #options: ClusterSourceOptions;
  readonly #jobs = new RowChanges<JobRow>((row) => row.job);
  readonly #nodes = new RowChanges<NodeRow>((row) => row.worker);
  readonly #changed = new Set<string>();
  #jobsLookedMs = Number.NEGATIVE_INFINITY;
  #nodesLookedMs = Number.NEGATIVE_INFINITY;
  #usageLookedMs = Number.NEGATIVE_INFINITY;
  #usage: string;

  constructor(options: ClusterSourceOptions) {
    this.#options = options;
    this.#usage = JSON.stringify(usageRow(options.state));
  }

  /** The core has said that there is something new of this job. */
  jobChanged(job: string): void {
    if (!this.#looksAtAll(this.#options.nowMs())) this.#changed.add(job);
  }

  /** Then nothing has to be remembered, as while nobody asks for deltas. */
  #looksAtAll(nowMs: number): boolean {
    return nowMs - this.#jobsLookedMs >= LOOK_MS;
  }

  takeDelta(): ClusterDelta | undefined {
    const nowMs = this.#options.nowMs();
    const jobs = this.#jobsDelta(nowMs);
    const nodes = this.#nodesDelta(nowMs);
    const usage = this.#usageDelta(nowMs);
    return jobs === undefined && nodes === undefined && usage === undefined ? undefined : { jobs, nodes, usage };
  }

  snapshot(): ClusterSnapshot {
    const jobs = this.#shownJobs().map((run) => this.#jobRow(run));
    const nodes = nodeRows(this.#options.state, this.#options.nowMs());
    this.#jobs.told(jobs);
    this.#nodes.told(nodes);
    return { jobs, nodes, usage: usageRow(this.#options.state) };
  }

  #jobsDelta(nowMs: number) {
    const { jobs } = this.#options.state;
    const changed = [...this.#changed].flatMap((job) => jobs.get(job) ?? []);
    this.#changed.clear();
    if (!this.#looksAtAll(nowMs)) return this.#jobs.ofSome(changed.map((run) => this.#jobRow(run)));
    this.#jobsLookedMs = nowMs;
    return this.#jobs.ofAll(this.#shownJobs().map((run) => this.#jobRow(run)));
  }

  #nodesDelta(nowMs: number) {
    const periodMs = Math.min(MAX_NODES_MS, NODES_MS + this.#options.state.workers.size);
    if (nowMs - this.#nodesLookedMs < periodMs - NODES_MS) return undefined;
    this.#nodesLookedMs = nowMs;
    return this.#nodes.ofAll(nodeRows(this.#options.state, nowMs));
  }

  #usageDelta(nowMs: number): UsageRow | undefined {
    if (nowMs - this.#usageLookedMs < LOOK_MS) return undefined;
    this.#usageLookedMs = nowMs;
    const row = usageRow(this.#options.state);
    const json = JSON.stringify(row);
    if (json === this.#usage) return undefined;
    this.#usage = json;
    return row;
  }

  #jobRow(run: JobRun): JobRow {
    const { state, histories, wallMs } = this.#options;
    return jobRow(state, run, histories.of(run.record.job), wallMs());
  }

  #shownJobs(): readonly JobRun[] {
    const all = [...this.#options.state.jobs.values()];
    const running = all.filter((run) => run.record.state === 'running');
    const queued = all.filter((run) => run.record.state === 'queued');
    const listed = [
      ...newest(all.filter(hasEnded), MAX_ENDED_JOBS),
      ...[...running, ...queued].slice(0, MAX_OPEN_JOBS),
    ];
    const watched = [...this.#options.watched()].flatMap((job) => this.#options.state.jobs.get(job) ?? []);
    return [...new Set([...listed, ...watched])];
  }
}

/** Jobs that come from etcd are in no order. */
function newest(runs: readonly JobRun[], most: number): readonly JobRun[] {
  if (runs.length <= most) return runs;
  return [...runs].sort((left, right) => left.record.submittedMs - right.record.submittedMs).slice(-most);
}
