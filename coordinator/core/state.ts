/** Everything that a coordinator knows. Only apply.ts and what it calls change it. */
import type { ShardFacts } from '../../shared/checkpoint/manifest.js';
import type { EngineUsage, JobSpec, JobState, Machine, Preflight, Spent } from '../../shared/wire/jobs.js';
import type { CoordinatorMessage, EngineFacts, Holding, Member, WorkerMessage } from '../../shared/wire/session.js';
import type { AccountsRecord } from './accounts.js';
import type { EventLog } from './event_log.js';
import type { Usages } from './fair_share.js';
import type { JobLogs } from './job_logs.js';
import { type ClusterSpent, noClusterSpent, type Reported } from './spent.js';

export type PreparedAnswer = Extract<WorkerMessage, { kind: 'prepared' }>;

/** What etcd keeps of a job. */
export interface JobRecord {
  readonly job: string;
  readonly operationId: string;
  readonly user: string;
  readonly spec: JobSpec;
  readonly bundle: string;
  readonly output: string;
  /** Where checkpoints go; the job has a folder of its id in it. */
  readonly checkpoints: string;
  /** The job that it continues; empty for one that begins at step 0. */
  readonly resumedFrom: string;
  readonly submittedMs: number;
  readonly state: JobState;
  readonly reason: string;
  readonly traceback: string;
  readonly weightsDigest: string;
  readonly metrics: Readonly<Record<string, number>>;
  /** Facts that every worker of the job must share; known once the first has loaded it. */
  readonly facts: EngineFacts | null;
  readonly progress: Progress;
  readonly restores: Restores;
  /** Until it was stored last; see JobRun. */
  readonly spent: Spent;
}

/** How often the job was restored without getting further since. */
export interface Restores {
  readonly count: number;
  /** Steps that were committed when it was restored last. */
  readonly committed: number;
}

/** A published checkpoint, as etcd keeps it. */
export interface CheckpointRecord {
  /** The job that saved it. */
  readonly job: string;
  readonly committed: number;
  readonly path: string;
  readonly manifestSha256: string;
  readonly stateSha256: string;
  readonly bytes: number;
  readonly timeMs: number;
  /** Progress of the job at that step. */
  readonly progress: Progress;
  /** Why it is not used any more; empty while it is taken to be whole. */
  readonly damage: string;
}

/** What etcd keeps of a job's checkpoints: in order of their steps. */
export interface CheckpointsRecord {
  readonly job: string;
  readonly checkpoints: readonly CheckpointRecord[];
  /** Paths of those that were to be removed: some may be there still. */
  readonly removing: readonly string[];
}

/** What etcd keeps of a worker, whether it is there or not. */
export interface NodeRecord {
  readonly worker: string;
  /** Why it gets no new work; empty if it does. */
  readonly cordoned: string;
}

/** The steps whose reports are in, always a prefix 0..committed-1, and what they add up to. */
export interface Progress {
  readonly committed: number;
  readonly loss: number | null;
  readonly samplesLost: number;
  readonly samplesRepeated: number;
}

/** What etcd keeps of a generation. */
export interface GenerationRecord {
  readonly job: string;
  readonly generation: number;
  readonly term: number;
  readonly committed: number;
  readonly roster: readonly Member[];
  /** Engines that each worker has started for the job until then; of the newest workers. */
  readonly attempts: Readonly<Record<string, number>>;
}

export interface Worker {
  readonly worker: string;
  readonly incarnation: string;
  readonly session: string;
  readonly host: string;
  readonly pid: number;
  readonly peerAddress: string;
  readonly machine: Machine;
  lastHeardMs: number;
  enginePid: number;
  committed: number;
  /** The job that it was told to load, until it says that it has unloaded it. Changed by assignment.ts only. */
  job: string | undefined;
  /** Present once the job is loaded. */
  facts: EngineFacts | undefined;
  engineStart: number;
  /** It takes the state over from others, and has none until it says that it has. */
  healing: boolean;
  /** It was told to stop and waits to be let go. */
  leaving: boolean;
  /** Why it is being taken away from its job, until it has unloaded it. Changed by departure.ts only. */
  withdrawn: string | undefined;
  /** It was told to unload its job and has not said that it has. */
  unloading: boolean;
  /** Median engine time a microbatch, milliseconds; 0 until it is known. */
  microbatchMs: number;
  /** By its newest heartbeat, see session.proto. */
  loopDelayMs: number;
  engineUsage: EngineUsage | undefined;
  hostUsedBytes: number | undefined;
  /** What it said that it held when its session began, until it is given a job in it. */
  holding: Holding | undefined;
  /** By its newest heartbeat; grows while it reads a checkpoint. */
  restoredPieces: number;
  /** It measures itself when it is told to. */
  readonly measures: boolean;
  /** It is to be measured when it is idle. */
  measureDue: boolean;
  /** It was told to, and its answer is overdue then. Changed by preflights.ts only. */
  measuringUntilMs: number | undefined;
  /** How many peers it was told to pull test bytes from. */
  peersTold: number;
  /** Incarnations of the same name whose place it has taken, the newest last. One that says hello after that is another daemon. */
  readonly displaced: readonly string[];
}

/** What is known of a worker's pre-flight. Changed by preflights.ts only. */
export interface Measured {
  readonly incarnation: string;
  /** Undefined: it did not come in time. */
  readonly report: Preflight | undefined;
  /** When it came, or was marked. */
  sinceMs: number;
  /** Nothing more is to be thought of it: it was compared with others, or an operator has decided. */
  judged: boolean;
  /** Why the worker gets no jobs; empty if it does. */
  marked: string;
  /** Since when the worker has had no session. */
  goneMs: number | undefined;
}

/** Where a job stands on its way from one generation to the next. */
export type Formation =
  /** No generation has been made by this leader, and enough workers are not ready. */
  | { readonly kind: 'gathering'; readonly sinceMs: number }
  /** A new leader waits for the workers of the stored generation. */
  | { readonly kind: 'adopting'; readonly deadlineMs: number }
  | {
      readonly kind: 'preparing';
      readonly generation: number;
      readonly reason: string;
      /** No step was reported for so long that reports must be lost if the workers have gone on. */
      readonly afterStillness: boolean;
      readonly asked: Set<string>;
      readonly answers: Map<string, PreparedAnswer>;
      readonly deadlineMs: number;
    }
  | { readonly kind: 'recording'; readonly plan: GenerationPlan }
  | {
      readonly kind: 'started';
      readonly record: GenerationRecord;
      readonly sinceMs: number;
      /** Its members restore a checkpoint, and no step has been made since. */
      readonly restores: CheckpointRecord | undefined;
    };

/** A save that is under way. */
export interface Save {
  readonly save: string;
  /** Steps that the snapshot has committed. */
  readonly committed: number;
  /** What had been reported when the first snapshot was taken. */
  readonly progress: Progress;
  readonly sinceMs: number;
  /** When the shards were given out, and how long it took to write them. */
  writingSinceMs: number;
  writeMs: number;
  stage: 'collecting' | 'writing' | 'publishing' | 'recording';
  /** Workers that have the snapshot, and the session in which they said so. */
  readonly holders: Map<string, string>;
  shards: SaveShard[];
  publisher: string | undefined;
  /** Cancels that wait for this save. */
  readonly cancels: readonly string[];
}

export interface SaveShard {
  writer: string | undefined;
  facts: ShardFacts | undefined;
}

/** A snapshot that was asked for, beyond those that the spec's period brings. */
export interface AskedSnapshot {
  readonly at: number;
  readonly deadlineMs: number;
}

export interface Saving {
  save: Save | undefined;
  asked: AskedSnapshot | undefined;
  /** When the newest save began, or was tried. */
  lastMs: number;
  /** Steps between the newest report and an asked snapshot, grown when the workers were faster. */
  leadFactor: number;
  /** The newest step of which a snapshot was skipped. */
  skipped: number;
  /** The last worker that has the state was told to go while it was being written, and its newer one is to be saved after that. */
  leaverWaits: boolean;
  /** Cancels that wait for a checkpoint that has not begun. */
  readonly cancels: string[];
  /** Paths whose removal has not been confirmed. */
  readonly removing: Set<string>;
}

export interface GenerationPlan {
  readonly record: GenerationRecord;
  readonly start: Omit<StartMessage, 'kind' | 'term' | 'reportsFrom'>;
  readonly reason: string;
  /** The checkpoint that its members restore, if none of them has the state. */
  readonly restores: CheckpointRecord | undefined;
}

export type StartMessage = Extract<CoordinatorMessage, { readonly kind: 'start' }>;

/** A pause that is going on: measured from the last committed step of the old generation. */
export interface Pause {
  readonly sinceMs: number;
}

export interface JobRun {
  record: JobRecord;
  /** The progress that etcd has; reports below it need not be sent again. */
  storedCommitted: number;
  progressStoredMs: number;
  formation: Formation;
  /** Highest generation number that was ever used or heard of. */
  generation: number;
  /** The newest generation that is in etcd. */
  lastRecord: GenerationRecord | undefined;
  /** Failures of engines since the last committed step, by worker. */
  readonly crashes: Map<string, { readonly count: number; readonly retryMs: number; readonly reason: string }>;
  /** Workers that may not take part, and why, until they are started anew: what was wrong may have been mended. */
  readonly refused: Map<string, { readonly incarnation: string; readonly reason: string }>;
  /** Workers that a peer could not reach, kept out of the roster for a while. */
  readonly benched: Map<string, Bench>;
  /** Pulls that failed between workers whose sessions are alive, until it is judged who of them is left out. */
  complaints: Complaints | undefined;
  /** When the blocks were last changed for the sake of speed. */
  balancedMs: number;
  /** The worker that was asked to finish. */
  finishing: { readonly worker: string; readonly session: string; readonly deadlineMs: number } | undefined;
  finishTries: number;
  /** Digests by number of committed steps and worker, of the newest few. */
  readonly digests: Map<number, Map<string, Digests>>;
  /** Lowest step that was reported though the one before it was not. */
  reportedAhead: number | undefined;
  pause: Pause | undefined;
  lastCommitMs: number;
  readonly stepTimesMs: number[];
  readonly events: EventLog;
  /** Changed by job_logs.ts only. */
  readonly logs: JobLogs;
  /** Engines that each worker was told to start for the job; of the newest workers. */
  readonly attempts: Map<string, number>;
  /** Requests that wait for the end of the job to be stored. */
  readonly cancelRequests: string[];
  /** The end that is being stored. */
  ending: boolean;
  /** Published checkpoints in order of their steps. */
  checkpoints: readonly CheckpointRecord[];
  readonly saving: Saving;
  /** Changed by accounting.ts only. */
  spent: Spent;
  /** Time of workers that trained, of which no step has said yet what became of it; and what was reported since. */
  unclaimedSeconds: number;
  reported: Reported;
  /** What it waits for that has not got its workers. */
  waitsFor: string;
  /** Milliseconds without any worker: nobody is to wait for ever. */
  waitedMs: number;
  /** It got its workers while an older job waited, and since when it has had some. */
  backfilled: boolean;
  assignedMs: number;
  /** Why it gave up its workers, until it gets some again. */
  sentAway: string | undefined;
  /** The next step that the running generation makes again, while it is below those that were reported before. */
  redoing: number;
  /** A restore waits until then: the one before did not get far. */
  restoreNotBeforeMs: number;
}

export interface Digests {
  readonly weights: string;
  readonly state: string;
}

export interface Bench {
  readonly incarnation: string;
  readonly untilMs: number;
  readonly times: number;
}

export interface Complaints {
  readonly sinceMs: number;
  readonly generation: number;
  /** Who could not pull from whom. */
  readonly pairs: { readonly reporter: string; readonly peer: string }[];
}

/** What is done when a write has reached etcd. */
export type Pending =
  | ({
      readonly kind: 'submit';
      readonly requests: string[];
      /** A job that has ended and makes room for this one. */
      readonly forgets: string | undefined;
    } & Submitted)
  | { readonly kind: 'generation'; readonly job: string; readonly record: GenerationRecord }
  | { readonly kind: 'end'; readonly job: string; readonly record: JobRecord }
  | { readonly kind: 'progress'; readonly job: string; readonly committed: number }
  | { readonly kind: 'facts'; readonly job: string }
  | { readonly kind: 'accounts'; readonly record: AccountsRecord }
  | {
      readonly kind: 'node';
      readonly record: NodeRecord;
      readonly request: string;
      readonly drainMs: number | undefined;
    }
  /** `committed`: the checkpoint that is new, undefined if one was marked as damaged. */
  | { readonly kind: 'checkpoints'; readonly job: string; readonly committed: number | undefined };

/** A new job, and the checkpoints that it begins with if it continues another. */
export interface Submitted {
  readonly record: JobRecord;
  readonly checkpoints: readonly CheckpointRecord[];
}

export interface PendingWrite {
  readonly pending: Pending;
  /** When to try again after a failure; undefined while the write is under way. */
  retryMs: number | undefined;
}

/** A record for etcd. */
export type Put =
  | { readonly kind: 'job'; readonly record: JobRecord }
  | { readonly kind: 'generation'; readonly record: GenerationRecord }
  | { readonly kind: 'checkpoints'; readonly record: CheckpointsRecord }
  | { readonly kind: 'node'; readonly record: NodeRecord }
  | { readonly kind: 'accounts'; readonly record: AccountsRecord };

export interface Leading {
  readonly term: number;
  eventCounter: number;
  operationCounter: number;
  saveCounter: number;
}

export interface Settings {
  readonly name: string;
  /** A worker that was silent for so long is lost. */
  readonly heartbeatMs: number;
  readonly missedHeartbeats: number;
  /** A candidate that has not answered a prepare for so long is left out. */
  readonly prepareMs: number;
  /** A first generation starts without workers that have not loaded the job so long after the first has. */
  readonly gatherMs: number;
  /** A new leader waits so long for the workers of the stored generation. */
  readonly adoptMs: number;
  /** A job that lacks workers keeps those that it has for so long, whoever else could use them. */
  readonly shortMs: number;
  /** A job that cannot keep its engines alive fails after so many crashes without a step. */
  readonly crashLimit: number;
  readonly finishMs: number;
  /** Workers that take a snapshot of a step later than so long after the first are not waited for. */
  readonly collectMs: number;
  /** A save that takes longer is given up. */
  readonly saveMs: number;
  /** An asked snapshot that nobody has taken for so long is given up. */
  readonly askMs: number;
  /** A pre-flight that has not come for so long is marked as such. */
  readonly measureMs: number;
  /** A worker that is marked is measured again so often. */
  readonly remeasureMs: number;
  readonly eventLimit: number;
  /** Of what a job printed, and of what all have printed. */
  readonly logBytesLimit: number;
  readonly allLogBytesLimit: number;
  /** Jobs that are kept, whatever their state. */
  readonly jobLimit: number;
  readonly scheduling: SchedulingSettings;
  /** What users have had is stored so often. */
  readonly accountsMs: number;
  /** In whatever currency; 0: unknown. */
  readonly pricePerWorkerHour: number;
}

export interface SchedulingSettings {
  /** So many idle workers are lent to nobody, so that a lost one is replaced at once. */
  readonly spares: number;
  /** Most workers that a user has at a time, for those who are not named in `quotas`. */
  readonly quota: number;
  readonly quotas: ReadonlyMap<string, number>;
  /** A worker that fails so often in an hour is taken only when no other fits; 0: never. */
  readonly quarantineAfter: number;
}

export interface CoordinatorState {
  readonly settings: Settings;
  leading: Leading | undefined;
  readonly workers: Map<string, Worker>;
  /** The same workers by the job that they have. */
  readonly byJob: Map<string | undefined, Set<Worker>>;
  /** Session id to worker name. */
  readonly sessions: Map<string, string>;
  readonly jobs: Map<string, JobRun>;
  /** Jobs that have ended and of which everything is kept, the latest last. */
  readonly recentlyEnded: string[];
  /** By worker name. */
  readonly nodes: Map<string, NodeRecord>;
  /** When workers that are being drained are taken away whatever is lost. */
  readonly drains: Map<string, number>;
  /** By worker name; of those that have gone, for some minutes. */
  readonly preflights: Map<string, Measured>;
  /** When each worker has failed lately. */
  readonly failures: Map<string, readonly number[]>;
  /** By user. */
  readonly usages: Usages;
  /** Bytes of the logs of all jobs. */
  logBytes: number;
  /** A new leader collects what was printed until then; undefined afterwards. */
  collectsUntilMs: number | undefined;
  /** Until when waiting and usage are accounted for. */
  accountedMs: number;
  /** Changed by accounting.ts only. */
  cluster: ClusterSpent;
  /** When they were written last. */
  accountsStoredMs: number;
  /** When it was decided last who gets which workers. */
  scheduledMs: number;
  readonly writes: Map<string, PendingWrite>;
  /**
   * Submits that etcd may or may not have stored, by operation id. Submitted again they become the same job: under a new id etcd could
   * hold both.
   */
  readonly doubtfulSubmits: Map<string, Submitted>;
}

export const DEFAULT_SETTINGS: Omit<Settings, 'name'> = {
  heartbeatMs: 500,
  missedHeartbeats: 3,
  prepareMs: 2_000,
  gatherMs: 3_000,
  adoptMs: 3_000,
  shortMs: 30_000,
  crashLimit: 5,
  finishMs: 600_000,
  collectMs: 2_000,
  saveMs: 1_800_000,
  askMs: 60_000,
  // Longer than all parts of a pre-flight may take together.
  measureMs: 180_000,
  remeasureMs: 600_000,
  eventLimit: 10_000,
  logBytesLimit: 1_048_576,
  allLogBytesLimit: 67_108_864,
  accountsMs: 60_000,
  jobLimit: 10_000,
  pricePerWorkerHour: 0,
  scheduling: { spares: 0, quota: Number.POSITIVE_INFINITY, quotas: new Map(), quarantineAfter: 0 },
};

export function initialState(settings: Settings): CoordinatorState {
  return {
    settings,
    leading: undefined,
    workers: new Map(),
    byJob: new Map(),
    sessions: new Map(),
    jobs: new Map(),
    recentlyEnded: [],
    nodes: new Map(),
    drains: new Map(),
    preflights: new Map(),
    failures: new Map(),
    usages: new Map(),
    logBytes: 0,
    collectsUntilMs: undefined,
    accountedMs: 0,
    cluster: noClusterSpent(0),
    accountsStoredMs: 0,
    scheduledMs: 0,
    writes: new Map(),
    doubtfulSubmits: new Map(),
  };
}

export function isTerminal(state: JobState): boolean {
  return state === 'finished' || state === 'failed' || state === 'cancelled';
}
