/** What can happen to a worker. Time, randomness and ids come in here. */
import type { EngineUsage, Preflight } from '../../shared/wire/jobs.js';
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { CheckpointEvent } from '../checkpoint/checkpoints.js';
import type { DataPlaneEvent } from '../collective/data_plane.js';
import type { EngineEvent } from './engine_protocol.js';

export interface PrintedLine {
  readonly timeMs: number;
  readonly stream: string;
  readonly text: string;
}

/** What is in use, as far as it can be seen; see proto/jobs.proto. */
export interface Usage {
  readonly engine: Omit<EngineUsage, 'device'> | undefined;
  readonly hostUsedBytes: number | undefined;
}

export const NO_USAGE: Usage = { engine: undefined, hostUsedBytes: undefined };

export type WorkerEvent =
  /** A session stream is open; the core answers with hello. */
  | { readonly kind: 'session_opened' }
  | { readonly kind: 'session_closed' }
  | { readonly kind: 'coordinator_message'; readonly message: CoordinatorMessage }
  /** `start` says which engine it is: the number that start_engine gave it. */
  | { readonly kind: 'engine_event'; readonly start: number; readonly event: EngineEvent }
  | { readonly kind: 'engine_exited'; readonly start: number; readonly reason: string }
  | { readonly kind: 'lines_printed'; readonly start: number; readonly lines: readonly PrintedLine[] }
  | { readonly kind: 'data_plane_event'; readonly event: Exclude<DataPlaneEvent, { kind: 'listening' }> }
  | { readonly kind: 'checkpoint_event'; readonly event: CheckpointEvent }
  | { readonly kind: 'model_described'; readonly job: string; readonly path: string }
  | { readonly kind: 'model_failed'; readonly job: string; readonly reason: string }
  /** What a measurement has found that was not stopped. */
  | { readonly kind: 'measured'; readonly preflight: Preflight }
  /** The daemon was told to stop. */
  | { readonly kind: 'stop_requested' }
  /** `loopDelayMs`: 99th percentile of how late the daemon's main loop was in the last second. */
  | { readonly kind: 'ticked'; readonly loopDelayMs: number; readonly usage: Usage };

export interface At<E> {
  readonly nowMs: number;
  readonly wallMs: number;
  readonly event: E;
}
