/** What can happen to a coordinator. Time, randomness and ids come in here. */
import type { ResumeRequest, SubmitRequest } from '../../shared/wire/jobs.js';
import type { WorkerMessage } from '../../shared/wire/session.js';
import type { AccountsRecord } from './accounts.js';
import type { CheckpointsRecord, GenerationRecord, JobRecord, NodeRecord } from './state.js';

export type CoordinatorEvent =
  /** This coordinator leads; the records are what etcd holds. */
  | {
      readonly kind: 'elected';
      readonly term: number;
      readonly jobs: readonly JobRecord[];
      readonly generations: readonly GenerationRecord[];
      readonly checkpoints: readonly CheckpointsRecord[];
      readonly nodes: readonly NodeRecord[];
      readonly accounts: AccountsRecord | undefined;
    }
  | { readonly kind: 'deposed' }
  | { readonly kind: 'session_message'; readonly session: string; readonly message: WorkerMessage }
  | { readonly kind: 'session_closed'; readonly session: string; readonly reason: string }
  /** `job` is a fresh id for the job. */
  | { readonly kind: 'submit'; readonly request: string; readonly job: string; readonly submit: SubmitRequest }
  /** `job` is a fresh id; the request names the job that is continued by its id. */
  | { readonly kind: 'resume'; readonly request: string; readonly job: string; readonly resume: ResumeRequest }
  | { readonly kind: 'cancel'; readonly request: string; readonly job: string; readonly checkpoint: boolean }
  | { readonly kind: 'cordon'; readonly request: string; readonly worker: string; readonly reason: string }
  | { readonly kind: 'uncordon'; readonly request: string; readonly worker: string }
  | {
      readonly kind: 'drain';
      readonly request: string;
      readonly worker: string;
      readonly reason: string;
      /** From now on. */
      readonly deadlineMs: number;
    }
  | { readonly kind: 'write_stored'; readonly operation: string }
  | { readonly kind: 'write_fenced'; readonly operation: string }
  | { readonly kind: 'write_failed'; readonly operation: string; readonly reason: string }
  | { readonly kind: 'ticked' };

export interface At<E> {
  /** Monotonic milliseconds: all deadlines. */
  readonly nowMs: number;
  /** Milliseconds since 1970, for people only. */
  readonly wallMs: number;
  readonly event: E;
}
