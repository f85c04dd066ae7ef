/** What a worker's core wants done. */
import type { JobSpec } from '../../shared/wire/jobs.js';
import type { MeasuredPeer, WorkerMessage } from '../../shared/wire/session.js';
import type { CheckpointCommand } from '../checkpoint/checkpoints.js';
import type { DataPlaneCommand } from '../collective/data_plane.js';
import type { EngineCommand } from './engine_protocol.js';

type WithoutDescriptors<C> = C extends unknown ? Omit<C, 'exchangeFd' | 'fd'> : never;

/** The data plane's commands; io/ adds the descriptors of the engine's memory. */
export type CoreDataPlaneCommand = WithoutDescriptors<DataPlaneCommand>;

/** The checkpoint thread's commands; io/ adds descriptors of the engine's memory. */
export type CoreCheckpointCommand = WithoutDescriptors<CheckpointCommand>;

/** Everything that model.json says. */
export interface ModelDescription {
  readonly job: string;
  readonly spec: JobSpec;
  readonly steps: number;
  readonly loss: number | null;
  readonly weightsDigest: string;
  readonly datasetDigest: string;
  readonly datasetLength: number;
  readonly parameters: number;
  readonly metrics: Readonly<Record<string, number>>;
  readonly torch: string;
  readonly file: { readonly bytes: number; readonly sha256: string };
}

export type WorkerCommand =
  | { readonly kind: 'send'; readonly message: WorkerMessage }
  /** Answers: engine events, printed lines, and at last engine_exited, all with this `start`. */
  | {
      readonly kind: 'start_engine';
      readonly start: number;
      readonly job: string;
      readonly threads: number;
      readonly bundle: string;
    }
  /** SIGKILL to the engine and everything that it started. */
  | { readonly kind: 'kill_engine'; readonly start: number }
  | { readonly kind: 'tell_engine'; readonly start: number; readonly command: EngineCommand }
  /** Make the exchange memory at least so long. Always before a command that names the bytes. */
  | { readonly kind: 'reserve_memory'; readonly start: number; readonly bytes: number }
  | { readonly kind: 'tell_data_plane'; readonly start: number; readonly command: CoreDataPlaneCommand }
  /** Answers: checkpoint events. */
  | { readonly kind: 'tell_checkpoints'; readonly start: number; readonly command: CoreCheckpointCommand }
  /** Find out how fit the machine is, at a low priority. Answer: measured. */
  | { readonly kind: 'measure'; readonly peers: readonly MeasuredPeer[] }
  /** The measurement that is under way is to take these instead, if it has not come to peers. */
  | { readonly kind: 'name_peers'; readonly peers: readonly MeasuredPeer[] }
  /** The measurement that is under way is not wanted any more. It has no answer. */
  | { readonly kind: 'stop_measuring' }
  /** Nothing is held any more: the daemon may exit. */
  | { readonly kind: 'exit' }
  /** Write model.json beside the exported model. Answer: model_described or model_failed. */
  | { readonly kind: 'describe_model'; readonly path: string; readonly model: ModelDescription }
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields: Readonly<Record<string, string | number>>;
    };
