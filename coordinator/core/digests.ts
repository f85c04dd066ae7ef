/** The workers' digests are compared: after a commit all states must be equal (I8). Whoever is odd heals. */
import type { WorkerMessage } from '../../shared/wire/session.js';
import { endJob } from './ending.js';
import { noteLoss } from './loss.js';
import { noteFailure } from './quarantine.js';
import { release } from './release.js';
import type { Digests, JobRun, Worker } from './state.js';
import type { Turn } from './turn.js';

/** Comparisons that may be incomplete at the same time. */
const COMPARISONS_KEPT = 4;

/** Members of the running generation that are there. */
export function liveMembers(turn: Turn, run: JobRun): readonly Worker[] {
  return (run.lastRecord?.roster ?? []).flatMap((member) => {
    const worker = turn.state.workers.get(member.worker);
    const alive =
      worker !== undefined &&
      worker.incarnation === member.incarnation &&
      worker.job === run.record.job &&
      worker.facts !== undefined;
    return alive ? [worker] : [];
  });
}

export function digestReported(
  turn: Turn,
  run: JobRun,
  worker: Worker,
  message: Extract<WorkerMessage, { kind: 'digestReported' }>,
): void {
  worker.committed = Math.max(worker.committed, message.committed);
  const reports = run.digests.get(message.committed) ?? new Map<string, Digests>();
  reports.set(worker.worker, { weights: message.weights, state: message.state });
  run.digests.set(message.committed, reports);
  for (const committed of [...run.digests.keys()].sort((a, b) => a - b).slice(0, -COMPARISONS_KEPT)) {
    run.digests.delete(committed);
  }
  compare(turn, run, message.committed);
}

/** Compares once every live member has reported. */
function compare(turn: Turn, run: JobRun, committed: number): void {
  const reports = run.digests.get(committed);
  const members = liveMembers(turn, run);
  if (reports === undefined || run.record.spec.determinism === 'loose') return;
  if (members.length < 2 || !members.every((member) => reports.has(member.worker))) return;
  const groups = new Map<string, Worker[]>();
  for (const member of members) {
    const state = reports.get(member.worker)?.state ?? '';
    groups.set(state, [...(groups.get(state) ?? []), member]);
  }
  if (groups.size < 2) return;
  const detail = [...groups]
    .map(([digest, workers]) => `${workers.map(({ worker }) => worker).join(', ')}: ${digest.slice(0, 12)}`)
    .join('; ');
  const majority = [...groups].find(([, workers]) => workers.length * 2 > members.length)?.[0];
  if (majority === undefined) {
    const reason = `the workers' states differ after step ${committed} and there is no majority (${detail})`;
    endJob(turn, run, 'failed', reason, '');
    return;
  }
  for (const member of members) {
    if (reports.get(member.worker)?.state !== majority) {
      expel(turn, run, member, `its state differs from the others' after step ${committed} (${detail})`);
    }
  }
}

/** What a worker has reported is not of the state that it has now: it has begun anew, or may have. */
export function forgetDigests(run: JobRun, worker: Worker): void {
  for (const reports of run.digests.values()) reports.delete(worker.worker);
}

/** Steps from `committed` on are done again. */
export function forgetDigestsAfter(run: JobRun, committed: number): void {
  for (const step of run.digests.keys()) if (step > committed) run.digests.delete(step);
}

/** A member whose state is wrong starts its engine afresh and heals. */
export function expel(turn: Turn, run: JobRun, worker: Worker, reason: string): void {
  noteLoss(turn, run, worker, 'digest', reason);
  noteFailure(turn, worker.worker, reason);
  forgetDigests(run, worker);
  release(turn, worker, reason);
}

/** Every live member has the digest that all have: the state after `committed` steps is beyond doubt. */
export function agreedDigest(turn: Turn, run: JobRun, committed: number): Digests | undefined {
  const reports = run.digests.get(committed);
  const members = liveMembers(turn, run);
  const first = members[0] === undefined ? undefined : reports?.get(members[0].worker);
  if (first === undefined || run.record.spec.determinism === 'loose') return first;
  return members.every((member) => reports?.get(member.worker)?.state === first.state) ? first : undefined;
}
