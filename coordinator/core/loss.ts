/** Tells those who watch that a member of the running generation is gone, and starts the clock of the pause. */
import type { JobRun, Worker } from './state.js';
import { emit, type Turn } from './turn.js';

export function noteLoss(turn: Turn, run: JobRun, worker: Worker, detectedBy: string, reason: string): void {
  const members = run.lastRecord?.roster.map((member) => member.worker) ?? [];
  if (run.formation.kind === 'gathering' || !members.includes(worker.worker)) return;
  emit(turn, run, {
    kind: 'workerLost',
    worker: worker.worker,
    detectedBy,
    detectMs: turn.nowMs - worker.lastHeardMs,
    reason,
  });
  if (run.pause === undefined) run.pause = { sinceMs: run.lastCommitMs };
}
