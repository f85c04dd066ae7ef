/** From the last step to the finished model: the digests agree, and one worker evaluates and writes the model. */
import type { WorkerMessage } from '../../shared/wire/session.js';
import { agreedDigest, expel, liveMembers } from './digests.js';
import { endJob, finishJob } from './ending.js';
import { totalSteps } from './progress.js';
import { isGoing } from './release.js';
import type { JobRun, Worker } from './state.js';
import { send, type Turn } from './turn.js';

const FINISH_TRIES = 5;

/** Called after every event: once all steps are in it asks a worker to finish, and another one if that one is lost. */
export function finishIfDone(turn: Turn, run: JobRun): void {
  const steps = totalSteps(run);
  if (run.ending || run.record.state !== 'running' || steps === 0 || run.record.progress.committed < steps) return;
  if (isFinishing(turn, run)) return;
  countTry(turn, run);
  run.finishing = undefined;
  if (agreedDigest(turn, run, steps) === undefined) return;
  const able = liveMembers(turn, run).find(
    (worker) => !isGoing(worker) && run.digests.get(steps)?.has(worker.worker) === true,
  );
  if (able === undefined) return;
  if (run.finishTries >= FINISH_TRIES) {
    endJob(turn, run, 'failed', `the finished model could not be written after ${FINISH_TRIES} tries`, '');
    return;
  }
  run.finishing = { worker: able.worker, session: able.session, deadlineMs: turn.nowMs + turn.state.settings.finishMs };
  send(turn, able, { kind: 'finish', job: run.record.job });
}

/** One that is still there could not do it. That others are lost or leave is no sign that nobody can. */
function countTry(turn: Turn, run: JobRun): void {
  const worker = turn.state.workers.get(run.finishing?.worker ?? '');
  if (worker !== undefined && worker.session === run.finishing?.session && !isGoing(worker)) run.finishTries += 1;
}

function isFinishing(turn: Turn, run: JobRun): boolean {
  if (run.finishing === undefined || turn.nowMs >= run.finishing.deadlineMs) return false;
  const worker = turn.state.workers.get(run.finishing.worker);
  if (worker?.job !== run.record.job || worker.facts === undefined) return false;
  if (worker.session !== run.finishing.session) {
    // The request or its answer may have been lost with the old session.
    run.finishing = { ...run.finishing, session: worker.session };
    send(turn, worker, { kind: 'finish', job: run.record.job });
  }
  return true;
}

export function finished(
  turn: Turn,
  run: JobRun,
  worker: Worker,
  message: Extract<WorkerMessage, { kind: 'finished' }>,
): void {
  if (run.finishing?.worker !== worker.worker) return;
  const agreed = agreedDigest(turn, run, totalSteps(run));
  if (agreed !== undefined && agreed.weights !== message.weights) {
    run.finishing = undefined;
    run.finishTries += 1;
    expel(turn, run, worker, 'the weights that it wrote are not those that all had agreed on');
    return;
  }
  finishJob(turn, run, message.weights, message.metrics);
}
