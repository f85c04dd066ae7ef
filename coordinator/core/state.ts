/** Everything that a coordinator knows. Only apply.ts and what it calls change it. */
import type { JobEvent, JobSpec, JobState, LogEntry } from '../../shared/wire/jobs.js';
import type { CoordinatorMessage, EngineFacts, Holding, Member, WorkerMessage } from '../../shared/wire/session.js';

export type PreparedAnswer = Extract<WorkerMessage, { kind: 'prepared' }>;

/** What etcd keeps of a job. */
export interface JobRecord {
  readonly job: string;
  readonly operationId: string;
  readonly spec: JobSpec;
  readonly bundle: string;
  readonly output: string;
  readonly submittedMs: number;
  readonly state: JobState;
  readonly reason: string;
  readonly traceback: string;
  readonly weightsDigest: string;
  readonly metrics: Readonly<Record<string, number>>;
  /** Facts that every worker of the job must share; known once the first has loaded it. */
  readonly facts: EngineFacts | null;
  readonly progress: Progress;
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
}

export interface Worker {
  readonly worker: string;
  readonly incarnation: string;
  readonly session: string;
  readonly host: string;
  readonly pid: number;
  readonly peerAddress: string;
  lastHeardMs: number;
  enginePid: number;
  committed: number;
  /** The job that it was told to load, until it says that it has unloaded it. */
  job: string | undefined;
  /** Present once the job is loaded. */
  facts: EngineFacts | undefined;
  engineStart: number;
  /** It was told to stop and waits to be let go. */
  leaving: boolean;
  /** Median engine time a microbatch, milliseconds; 0 until it is known. */
  microbatchMs: number;
  /** What it said that it held when its session began. */
  holding: Holding | undefined;
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
  | { readonly kind: 'started'; readonly record: GenerationRecord; readonly sinceMs: number };

export interface GenerationPlan {
  readonly record: GenerationRecord;
  readonly start: Omit<StartMessage, 'kind' | 'term' | 'reportsFrom'>;
  readonly reason: string;
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
  readonly crashes: Map<string, { count: number; retryMs: number }>;
  /** Workers that may not take part, and why. */
  readonly refused: Map<string, string>;
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
  readonly events: JobEvent[];
  readonly logs: LogEntry[];
  logBytes: number;
  /** Lines that were dropped from the front of `logs`. */
  logsDropped: number;
  /** Requests that wait for the end of the job to be stored. */
  readonly cancelRequests: string[];
  /** The end that is being stored. */
  ending: boolean;
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
  | { readonly kind: 'submit'; readonly requests: string[]; readonly record: JobRecord }
  | { readonly kind: 'generation'; readonly job: string; readonly record: GenerationRecord }
  | { readonly kind: 'end'; readonly job: string; readonly record: JobRecord }
  | { readonly kind: 'progress'; readonly job: string; readonly committed: number }
  | { readonly kind: 'facts'; readonly job: string };

export interface PendingWrite {
  readonly pending: Pending;
  /** When to try again after a failure; undefined while the write is under way. */
  retryMs: number | undefined;
}

/** A record for etcd. */
export type Put =
  | { readonly kind: 'job'; readonly record: JobRecord }
  | { readonly kind: 'generation'; readonly record: GenerationRecord };

export interface Leading {
  readonly term: number;
  eventCounter: number;
  operationCounter: number;
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
  /** A job that lacks workers keeps those that it has for so long while an older one lacks some too. */
  readonly shortMs: number;
  /** A job that cannot keep its engines alive fails after so many crashes without a step. */
  readonly crashLimit: number;
  readonly finishMs: number;
  readonly eventLimit: number;
  readonly logBytesLimit: number;
}

export interface CoordinatorState {
  readonly settings: Settings;
  leading: Leading | undefined;
  readonly workers: Map<string, Worker>;
  /** Session id to worker name. */
  readonly sessions: Map<string, string>;
  readonly jobs: Map<string, JobRun>;
  readonly writes: Map<string, PendingWrite>;
  /**
   * Submits that etcd may or may not have stored, by operation id. Submitted again they become the same job: under a new id etcd could
   * hold both.
   */
  readonly doubtfulSubmits: Map<string, JobRecord>;
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
  eventLimit: 10_000,
  logBytesLimit: 1_048_576,
};

export function initialState(settings: Settings): CoordinatorState {
  return {
    settings,
    leading: undefined,
    workers: new Map(),
    sessions: new Map(),
    jobs: new Map(),
    writes: new Map(),
    doubtfulSubmits: new Map(),
  };
}

export function isTerminal(state: JobState): boolean {
  return state === 'finished' || state === 'failed' || state === 'cancelled';
}
