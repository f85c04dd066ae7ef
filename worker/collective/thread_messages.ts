/** What the daemon's main thread and the data plane's thread post to each other. */
import type { DataPlaneCommand, DataPlaneEvent } from './data_plane.js';

export interface ThreadOptions {
  readonly host: string;
  readonly port: number;
  readonly worker: string;
  readonly incarnation: string;
  /** Workers on this host read each other's exchange memory where it is. */
  readonly sameHost: boolean;
}

export type ToThread =
  | { readonly kind: 'command'; readonly command: DataPlaneCommand }
  | { readonly kind: 'shut_down' };

export type FromThread =
  | { readonly kind: 'event'; readonly event: DataPlaneEvent }
  | { readonly kind: 'log'; readonly level: 'info' | 'warn'; readonly line: string }
  | { readonly kind: 'closed' };
