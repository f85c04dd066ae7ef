/** What pages may change: who may do it, what the core is told, and what the audit log says that it was about. */
import { DRAIN_SECONDS } from '../../shared/drain.js';
import { isOthersJob, mayActAs } from '../../shared/role.js';
import type { PageAct } from '../../shared/wire/dashboard.js';
import type { CoordinatorEvent } from '../core/event.js';
import { cordonReason } from '../core/nodes.js';
import type { CoordinatorState } from '../core/state.js';
import type { Visitor } from './visitors.js';

/** Why it is refused; undefined if it is not. */
export function refusalOfAct(state: CoordinatorState, visitor: Visitor, act: PageAct): string | undefined {
  if (!visitor.isLetIn()) return 'log in again';
  if (act.kind === 'cancel') return refusalOfCancel(state, visitor, act.job);
  return mayActAs(visitor.role, 'admin') ? undefined : `a ${visitor.role} may not ${act.kind} workers; an admin may`;
}

/** A submitter cancels what is his. */
function refusalOfCancel({ jobs }: CoordinatorState, visitor: Visitor, job: string): string | undefined {
  const { name, role } = visitor;
  const owner = jobs.get(job)?.record.user;
  if (!mayActAs(role, 'submitter')) return `a ${role} may not cancel jobs`;
  if (owner === undefined || !isOthersJob(visitor, owner)) return undefined;
  return `${name}, a submitter, may not cancel a job of ${owner}; an admin may`;
}

/** `who`: its name, if it has one. */
export function eventOfAct(act: PageAct, who: string, request: string): CoordinatorEvent {
  switch (act.kind) {
    case 'cancel':
      return { kind: 'cancel', request, job: act.job, checkpoint: act.checkpoint };
    case 'uncordon':
      return { kind: 'uncordon', request, worker: act.worker };
    case 'cordon':
      return { kind: 'cordon', request, worker: act.worker, reason: cordonReason(act.reason, who) };
    case 'drain': {
      const reason = cordonReason(act.reason, who);
      return { kind: 'drain', request, worker: act.worker, reason, deadlineMs: DRAIN_SECONDS * 1000 };
    }
  }
}

export function subjectOfAct(act: PageAct): Readonly<Record<string, string>> {
  if (act.kind === 'cancel') return { job: act.job, ...(act.checkpoint ? { checkpoint: 'true' } : {}) };
  const reason = act.kind === 'uncordon' ? '' : act.reason.trim();
  return { worker: act.worker, ...(reason === '' ? {} : { reason }) };
}
