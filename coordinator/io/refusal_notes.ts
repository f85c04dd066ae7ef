/**
 * Entries of the audit log about calls that came to nothing. Anybody with a certificate can make as many as he likes, and they must not push out
 * what others have done: past a number of each caller, one entry a second says how many it stands for.
 */
import { Allowance, type Allowed } from './allowance.js';
import type { AuditEntry, AuditTrail } from './audit_log.js';

const ALLOWED: Allowed = { atOnce: 100, everyMs: 1_000 };
/** Callers that are remembered; who is forgotten may begin anew. */
const MOST_CALLERS = 1_000;

interface Caller {
  readonly allowance: Allowance;
  /** Of which no entry says so yet. */
  unseen: number;
}

export class RefusalNotes {
  readonly #callers = new Map<string, Caller>();

  constructor(
    private readonly audit: Pick<AuditTrail, 'record'>,
    /** A parameter for tests only. */
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  record(entry: AuditEntry): void {
    const caller = this.#callerOf(entry.who);
    if (caller.allowance.take()) {
      this.audit.record(entry);
      return;
    }
    caller.unseen += 1;
    if (caller.unseen > 1) return;
    const say = (): void => {
      const { who, from, call, outcome, reason } = entry;
      this.audit.record({ who, from, call, on: { attempts: String(caller.unseen) }, outcome, reason });
      caller.unseen = 0;
    };
    setTimeout(say, ALLOWED.everyMs).unref();
  }

  #callerOf(who: string): Caller {
    const known = this.#callers.get(who);
    if (known !== undefined) return known;
    const [oldest] = this.#callers.keys();
    if (oldest !== undefined && this.#callers.size >= MOST_CALLERS) this.#callers.delete(oldest);
    const caller = { allowance: new Allowance(ALLOWED, this.nowMs), unseen: 0 };
    this.#callers.set(who, caller);
    return caller;
  }
}
