/** Who did what on the pages, as entries of the coordinator's audit log. */
import type { PageAct } from '../../shared/wire/dashboard.js';
import type { AuditTrail } from '../io/audit_log.js';

export interface Act {
  readonly act: 'log in' | PageAct['kind'];
  /** Empty where nobody needs a name, or has none yet. */
  readonly who: string;
  readonly role: string;
  /** Address of the other end. */
  readonly from: string;
  /** Job, worker and the like. */
  readonly on?: Readonly<Record<string, string>>;
  /** What went wrong, or empty. */
  readonly outcome: string;
}

export type Audit = (act: Act) => void;

export function auditTo(log: Pick<AuditTrail, 'record'>): Audit {
  return ({ act, who, role, from, on = {}, outcome }) =>
    log.record({
      who: `${role} ${who}`.trim() || 'nobody',
      from,
      call: `dashboard ${act}`,
      on,
      outcome: outcome === '' ? 'OK' : 'REFUSED',
      ...(outcome === '' ? {} : { reason: outcome }),
    });
}
