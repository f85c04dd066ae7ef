/** What the daemon's main thread and its checkpoint thread post to each other. */
import type { StorageOptions } from '../../shared/checkpoint/open_storage.js';
import type { CheckpointCommand, CheckpointEvent } from './checkpoints.js';

export interface ThreadOptions {
  readonly storage: Pick<StorageOptions, 's3'>;
}

export type ToThread =
  | { readonly kind: 'command'; readonly command: CheckpointCommand }
  | { readonly kind: 'shut_down' };

export type FromThread =
  | { readonly kind: 'event'; readonly event: CheckpointEvent }
  | { readonly kind: 'log'; readonly level: 'info' | 'warn'; readonly line: string };
