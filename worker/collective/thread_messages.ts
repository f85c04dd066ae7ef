/** What the daemon's main thread and the data plane's thread post to each other. */
import type { Credentials } from '../../shared/identity/credential_files.js';
import type { DataPlaneCommand, DataPlaneEvent } from './data_plane.js';

export interface ThreadOptions {
  readonly host: string;
  readonly port: number;
  readonly worker: string;
  readonly incarnation: string;
  /** Workers on this host read each other's exchange memory where it is. */
  readonly sameHost: boolean;
  /** Without them nothing is encrypted, and nobody is asked who he is. */
  readonly credentials: Credentials | undefined;
}

export type ToThread =
  | { readonly kind: 'command'; readonly command: DataPlaneCommand }
  /** In the place of those before, for connections from now on. */
  | { readonly kind: 'credentials'; readonly credentials: Credentials }
  /** Answered with `obeyed` when all that was posted before it is done. */
  | { readonly kind: 'say_when_obeyed' }
  | { readonly kind: 'shut_down' };

export type FromThread =
  | { readonly kind: 'event'; readonly event: DataPlaneEvent }
  | { readonly kind: 'log'; readonly level: 'info' | 'warn'; readonly line: string }
  | { readonly kind: 'obeyed' }
  | { readonly kind: 'closed' };
