/** Workers that cannot reach each other though both reach the coordinator: one of them is left out for a while. */
import type { WorkerMessage } from '../../shared/wire/session.js';
import { noteLoss } from './loss.js';
import type { JobRun, Worker } from './state.js';
import { logJob, type Turn } from './turn.js';

/** A dead worker's session ends within this time too, and then there is nothing to judge. */
const JUDGE_MS = 250;
const FIRST_BENCH_MS = 5_000;
const MAX_BENCH_MS = 60_000;

export function complain(
  turn: Turn,
  run: JobRun,
  reporter: Worker,
  message: Extract<WorkerMessage, { kind: 'peerLost' }>,
): void {
  if (run.formation.kind !== 'started' || run.formation.record.generation !== message.generation) return;
  logJob(turn, run, 'warn', 'a peer cannot be reached', {
    worker: reporter.worker,
    peer: message.worker,
    reason: message.reason,
  });
  if (run.complaints?.generation !== message.generation) {
    run.complaints = { sinceMs: turn.nowMs, generation: message.generation, pairs: [] };
  }
  const { pairs } = run.complaints;
  if (pairs.some((pair) => pair.reporter === reporter.worker && pair.peer === message.worker)) return;
  pairs.push({ reporter: reporter.worker, peer: message.worker });
}

/** Whoever is part of most complaints is benched; of equals the last of the roster. */
export function judge(turn: Turn, run: JobRun): void {
  const { complaints, formation } = run;
  if (complaints === undefined || turn.nowMs - complaints.sinceMs < JUDGE_MS) return;
  run.complaints = undefined;
  if (formation.kind !== 'started' || formation.record.generation !== complaints.generation) return;
  const count = (worker: string) =>
    complaints.pairs.filter((pair) => pair.reporter === worker || pair.peer === worker).length;
  let worst: Worker | undefined;
  for (const member of formation.record.roster) {
    const worker = turn.state.workers.get(member.worker);
    if (worker !== undefined && count(member.worker) > 0 && count(member.worker) >= count(worst?.worker ?? '')) {
      worst = worker;
    }
  }
  if (worst !== undefined) bench(turn, run, worst, complaints.pairs);
}

function bench(
  turn: Turn,
  run: JobRun,
  worker: Worker,
  pairs: readonly { readonly reporter: string; readonly peer: string }[],
): void {
  const times = (run.benched.get(worker.worker)?.times ?? 0) + 1;
  const untilMs = turn.nowMs + Math.min(MAX_BENCH_MS, FIRST_BENCH_MS * 2 ** (times - 1));
  run.benched.set(worker.worker, { incarnation: worker.incarnation, untilMs, times });
  const detail = pairs.map(({ reporter, peer }) => `${reporter} cannot reach ${peer}`).join(', ');
  noteLoss(turn, run, worker, 'peer_report', detail);
}

export function isBenched(turn: Turn, run: JobRun, worker: Worker): boolean {
  const held = run.benched.get(worker.worker);
  return held !== undefined && held.incarnation === worker.incarnation && turn.nowMs < held.untilMs;
}
