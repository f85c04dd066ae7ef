/**
 * What a coordinator's dashboard and its page say to each other: JSON over a WebSocket, described in docs/dashboard.md. Types, and the one
 * place where the page takes parsed JSON for one of them: the page comes from the process that sends the messages, and says so if the
 * versions differ after an update. What the page sends is checked by coordinator/web/viewer_request.ts.
 */
import type { UserRole } from '../role.js';
import type { JobEvent, JobState, Spent, Usage } from './jobs.js';

/** Raised with every change that an older page would misread. */
export const DASHBOARD_VERSION = 4;

export type NodeState = 'idle' | 'measuring' | 'loading' | 'ready' | 'training' | 'leaving';

export interface JobRow {
  readonly job: string;
  readonly name: string;
  readonly user: string;
  readonly priority: number;
  readonly state: JobState;
  /** What it waits for, or why it ended. */
  readonly reason: string;
  readonly submittedMs: number;
  /** Steps that are committed, and those of the whole job (0: not known yet). */
  readonly committed: number;
  readonly steps: number;
  readonly generation: number;
  /** Of the newest generation. */
  readonly workers: number;
  readonly loss: number | null;
  /** Over the last seconds; null while nothing is known. */
  readonly stepsPerSecond: number | null;
  readonly samplesPerSecond: number | null;
  readonly secondsLeft: number | null;
  /** Newest checkpoint that is whole. */
  readonly checkpoint: number | null;
}

export interface NodeRow {
  readonly worker: string;
  readonly host: string;
  readonly pid: number;
  readonly enginePid: number;
  readonly state: NodeState;
  /** Empty when it has none. */
  readonly job: string;
  readonly committed: number;
  readonly device: string;
  readonly torch: string;
  /** Its microbatches in the running generation: the first and how many. */
  readonly lo: number;
  readonly length: number;
  readonly loopDelayMs: number;
  /** Median engine time of a microbatch; 0 until it is known. */
  readonly microbatchMs: number;
  /** Cores that its engine keeps busy, and resident memory of that in bytes; null while there is none, or it cannot be seen. */
  readonly engineCores: number | null;
  readonly engineBytes: number | null;
  /** Of the machine. */
  readonly cpus: number;
  readonly hostUsedBytes: number | null;
  readonly hostBytes: number;
  /** Of its GPU, whoever uses it; null without one. */
  readonly deviceUsedBytes: number | null;
  readonly deviceBytes: number | null;
  /** Its microbatches take much longer than those of the others of its job. */
  readonly slow: boolean;
  /** It gets no new work, by somebody's decision. */
  readonly cordoned: boolean;
  /** Why it gets no new work, or is trusted less; empty if there is nothing to say. */
  readonly note: string;
}

/** Where the worker-seconds of the cluster went since its leader began, see Usage in proto/jobs.proto. */
export type UsageRow = Omit<Usage, 'users' | 'timeMs'>;

export interface Rows<T> {
  readonly changed: readonly T[];
  /** Ids of rows that are no more. */
  readonly gone: readonly string[];
}

export interface ClusterDelta {
  readonly jobs?: Rows<JobRow> | undefined;
  readonly nodes?: Rows<NodeRow> | undefined;
  readonly usage?: UsageRow | undefined;
}

export interface ClusterSnapshot {
  readonly jobs: readonly JobRow[];
  readonly nodes: readonly NodeRow[];
  readonly usage: UsageRow;
}

/** Means over the steps of each point, by column. All columns are equally long. Null: not a finite number. */
export interface SeriesColumns {
  /** The last step of the point. */
  readonly step: readonly number[];
  /** When that step was reported, milliseconds since 1970. */
  readonly timeMs: readonly number[];
  /** Steps in the point. */
  readonly count: readonly number[];
  readonly loss: readonly (number | null)[];
  readonly lossMin: readonly (number | null)[];
  readonly lossMax: readonly (number | null)[];
  /** The time of a step, and its parts; see docs/metrics.md. */
  readonly stepMs: readonly number[];
  readonly dataMs: readonly number[];
  readonly computeMs: readonly number[];
  readonly reduceMs: readonly number[];
  readonly gatherMs: readonly number[];
  readonly applyMs: readonly number[];
  /** Samples of a step, divided by its time. */
  readonly samplesPerSecond: readonly (number | null)[];
}

/** Replaces all points from index `from` on. */
export interface SeriesChange {
  /** Steps that a full point stands for. */
  readonly stride: number;
  readonly from: number;
  readonly columns: SeriesColumns;
}

type WithRecord<E> = E extends { readonly metrics: ReadonlyMap<string, number> }
  ? Omit<E, 'metrics'> & { readonly metrics: Readonly<Record<string, number>> }
  : E;
/** Every event but the steps, which are in the series. */
export type EventRow = WithRecord<Exclude<JobEvent, { readonly kind: 'stepCommitted' }>>;

export interface LogRow {
  /** Number of the line in its job. */
  readonly line: number;
  readonly timeMs: number;
  readonly worker: string;
  /** Which of the engines that the worker has had for the job. */
  readonly attempt: number;
  readonly stream: string;
  readonly text: string;
}

export interface CheckpointRow {
  readonly step: number;
  readonly path: string;
  readonly bytes: number;
  readonly timeMs: number;
  readonly damage: string;
}

export interface JobDetail {
  /** Workers of the newest generation, in the order of their ranks. */
  readonly roster: readonly string[];
  readonly task: string;
  readonly batch: number;
  readonly microbatches: number;
  readonly seed: number;
  readonly precision: string;
  readonly exchange: string;
  readonly determinism: string;
  readonly workersMin: number;
  readonly workersMax: number;
  readonly parameters: number | null;
  readonly datasetLength: number | null;
  readonly output: string;
  readonly checkpoints: string;
  readonly resumedFrom: string;
  readonly weightsDigest: string;
  readonly spent: Spent;
  /** 0: unknown. */
  readonly pricePerWorkerHour: number;
  readonly samplesLost: number;
  readonly samplesRepeated: number;
  readonly metrics: Readonly<Record<string, number>>;
  readonly traceback: string;
}

export interface JobDelta {
  readonly detail?: JobDetail | undefined;
  readonly series?: SeriesChange | undefined;
  readonly events?: readonly EventRow[] | undefined;
  readonly logs?: readonly LogRow[] | undefined;
  readonly checkpoints?: readonly CheckpointRow[] | undefined;
}

export interface JobSnapshot {
  readonly job: string;
  readonly detail: JobDetail;
  readonly series: SeriesChange;
  readonly events: readonly EventRow[];
  readonly logs: readonly LogRow[];
  readonly checkpoints: readonly CheckpointRow[];
}

export interface Hello {
  readonly kind: 'hello';
  readonly version: number;
  /** Resume numbers count within an epoch; another process or another term is another epoch. */
  readonly epoch: string;
  /** Name of this coordinator. */
  readonly coordinator: string;
  readonly leads: boolean;
  readonly term: number;
  /** Who leads, as far as known, and the address of its dashboard. */
  readonly leader: { readonly name: string; readonly dashboard: string | null } | null;
}

export type ServerMessage =
  | Hello
  /** Sent when there is no news, so that a page knows that it is live. */
  | { readonly kind: 'beat' }
  | { readonly kind: 'cluster_snapshot'; readonly number: number; readonly data: ClusterSnapshot }
  | { readonly kind: 'cluster_delta'; readonly number: number; readonly data: ClusterDelta }
  | { readonly kind: 'job_snapshot'; readonly job: string; readonly number: number; readonly data: JobSnapshot }
  | { readonly kind: 'job_delta'; readonly job: string; readonly number: number; readonly data: JobDelta }
  /** The job cannot be shown, and why. */
  | { readonly kind: 'job_missing'; readonly job: string; readonly reason: string }
  /** What a page wanted changed is stored, or was refused. */
  | { readonly kind: 'act_done'; readonly request: number; readonly error: string };

export type ViewerRequest =
  | {
      readonly kind: 'watch';
      /** The job that is looked at; null for none. */
      readonly job: string | null;
      /** The newest that the page has of the cluster and of this job, so that it gets only what it missed. */
      readonly resume: { readonly epoch: string; readonly cluster: number | null; readonly job: number | null } | null;
    }
  /** `token`: from /token, see coordinator/web/page_token.ts. */
  | (PageAct & { readonly request: number; readonly token: string });

/** What a page may change. */
export type PageAct =
  | { readonly kind: 'cancel'; readonly job: string; readonly checkpoint: boolean }
  | { readonly kind: 'cordon' | 'drain'; readonly worker: string; readonly reason: string }
  | { readonly kind: 'uncordon'; readonly worker: string };

export function parseServerMessage(text: string): ServerMessage {
  return JSON.parse(text) as ServerMessage;
}

/** What /who answers: as whom a page looks, and what can be done about it. */
export interface Visit {
  /** Null for nobody who is let in. An empty name: nobody needs one. */
  readonly visitor: { readonly name: string; readonly role: UserRole; readonly loggedIn: boolean } | null;
  /** A token can be posted to /login. */
  readonly takesTokens: boolean;
  /** Why nobody is let in. */
  readonly reason: string;
}

export function parseVisit(text: string): Visit {
  return JSON.parse(text) as Visit;
}
