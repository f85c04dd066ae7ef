/** Who did what, one line each in the log of the coordinator, marked with `audit: true`. */
import type { Logger } from '../../shared/logger.js';

export interface Act {
  readonly act: 'log in' | 'cancel';
  /** Empty where nobody needs a name, or has none yet. */
  readonly who: string;
  readonly role: string;
  /** Address of the other end. */
  readonly from: string;
  readonly job?: string;
  readonly checkpoint?: boolean;
  /** What went wrong, or empty. */
  readonly outcome: string;
}

export type Audit = (act: Act) => void;

export function auditTo(log: Logger): Audit {
  return (act) => log.info('dashboard', { audit: true, ...act });
}
