/** What a coordinator's core wants done. */
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { Put } from './state.js';

export type ReplyErrorCode = 'not_found' | 'invalid' | 'unavailable' | 'not_stored' | 'exhausted' | 'save_failed';

export type CoordinatorCommand =
  | { readonly kind: 'send'; readonly session: string; readonly message: CoordinatorMessage }
  | { readonly kind: 'close_session'; readonly session: string; readonly reason: string }
  /** One transaction, guarded by the term. Answer: write_stored, write_fenced or write_failed. */
  | {
      readonly kind: 'write';
      readonly term: number;
      readonly operation: string;
      readonly puts: readonly Put[];
      /** Jobs of which nothing is kept any more. */
      readonly forgets: readonly string[];
    }
  | { readonly kind: 'reply'; readonly request: string; readonly job: string }
  | { readonly kind: 'reply_node'; readonly request: string; readonly worker: string }
  | { readonly kind: 'reply_error'; readonly request: string; readonly code: ReplyErrorCode; readonly message: string }
  /** The job has new events or logs, or has ended: whoever watches it is to see them. */
  | { readonly kind: 'publish'; readonly job: string }
  /** A write was refused: somebody else leads. */
  | { readonly kind: 'step_down' }
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields: Readonly<Record<string, string | number>>;
    };
