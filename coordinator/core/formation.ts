/** How a job goes from one generation to the next: prepare, record in etcd, start. One mechanism for every change. */

import { medianOf } from '../../shared/median.js';
import type { Member } from '../../shared/wire/session.js';
import { assignedTo, countOf } from './assignment.js';
import { imbalance } from './balance.js';
import { forgetDigestsAfter, liveMembers } from './digests.js';
import { endJob } from './ending.js';
import { type Candidate, planGeneration } from './generation_plan.js';
import { allCommitted, giveUpLostReports, totalSteps } from './progress.js';
import { isBenched } from './reachability.js';
import { isGoing, release } from './release.js';
import { mayRestore, restoredBy } from './restoring.js';
import { newestWhole } from './retention.js';
import { loseSaving, savesBeyond } from './saving.js';
import type { Formation, GenerationPlan, JobRun, PreparedAnswer, Worker } from './state.js';
import { emit, logJob, sendAll, type Turn, write } from './turn.js';

type Started = Extract<Formation, { kind: 'started' }>;

/** Time without a step after which a generation is begun anew. Engines that hang are killed by their daemons before. */
const STILL_MS = 60_000;
/** As long as a member heals: a large state takes its time, and a peer that stops sending it is reported. */
const STILL_HEALING_MS = 600_000;
const STILL_FACTOR = 10;
/** A restore that waits for a save looks so often whether it is done. */
const SAVE_LOOK_MS = 500;

/** Workers that have loaded the job: they can be in its next generation. */
function ready(turn: Turn, run: JobRun): readonly Worker[] {
  return assignedTo(turn.state, run.record.job).filter((worker) => isReady(turn, run, worker));
}

function isReady(turn: Turn, run: JobRun, worker: Worker): boolean {
  return worker.facts !== undefined && !isGoing(worker) && !isBenched(turn, run, worker);
}

export function prepare(turn: Turn, run: JobRun, reason: string, afterStillness = false): void {
  const asked = ready(turn, run);
  if (asked.length < 1) {
    run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
    return;
  }
  run.generation += 1;
  run.formation = {
    kind: 'preparing',
    generation: run.generation,
    reason,
    afterStillness,
    asked: new Set(asked.map((worker) => worker.worker)),
    answers: new Map(),
    deadlineMs: turn.nowMs + turn.state.settings.prepareMs,
  };
  sendAll(turn, asked, { kind: 'prepare', job: run.record.job, generation: run.generation });
}

/**
 * A worker has a new session: what it was told in the one before may be lost, and what it said. Nothing is sent twice; a generation above
 * makes it good.
 */
export function repeatWhatIsLost(turn: Turn, run: JobRun, { worker: name, holding }: Worker): void {
  const { formation } = run;
  if (formation.kind === 'preparing' && formation.asked.has(name) && !formation.answers.has(name)) {
    prepare(turn, run, formation.reason, formation.afterStillness);
  } else if (formation.kind === 'started' && formation.record.roster.some(({ worker }) => worker === name)) {
    const hasStarted = holding?.generation === formation.record.generation && holding.started;
    if (!hasStarted) prepare(turn, run, `${name} has not heard of the start`);
  }
}

/** False while others certainly owe an answer: then there is nothing to look at. */
export function answerPrepare(run: JobRun, worker: Worker, answer: PreparedAnswer): boolean {
  const { formation } = run;
  if (formation.kind !== 'preparing' || answer.generation !== formation.generation) return true;
  if (!formation.asked.has(worker.worker)) return true;
  formation.answers.set(worker.worker, answer);
  worker.healing = !answer.holding.hasState;
  return formation.answers.size >= formation.asked.size;
}

/** A generation that a worker has seen is a few prepares above what is stored; one that is far above was made up, and is no reason to go there. */
const MOST_AHEAD = 1_000_000;

export function isPlausible(run: JobRun, generation: number): boolean {
  return generation <= run.generation + MOST_AHEAD;
}

/** A worker refused a generation because it has seen a higher one, under a leader that is gone: go above it. */
export function goAbove(turn: Turn, run: JobRun, generation: number): void {
  run.generation = Math.max(run.generation, generation);
  prepare(turn, run, 'a worker had seen a higher generation');
}

function record(turn: Turn, run: JobRun): void {
  const { formation } = run;
  if (formation.kind !== 'preparing') return;
  const candidates = ready(turn, run).flatMap((worker) => {
    const answer = formation.answers.get(worker.worker);
    return answer === undefined ? [] : [{ worker, answer }];
  });
  if (candidates.length < run.record.spec.workersMin) {
    run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
    return;
  }
  const plan = planGeneration({
    job: run.record.job,
    generation: formation.generation,
    term: turn.leading.term,
    microbatches: run.record.spec.microbatches,
    reason: formation.reason,
    strict: run.record.spec.determinism === 'strict',
    candidates,
    last: run.lastRecord,
    checkpoint: newestWhole(run.checkpoints),
    attempts: run.attempts,
  });
  const committed = plan?.record.committed ?? 0;
  if ((committed === 0 || plan?.restores !== undefined) && savesBeyond(turn, run, committed)) {
    run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
    run.restoreNotBeforeMs = Math.max(run.restoreNotBeforeMs, turn.nowMs + SAVE_LOOK_MS);
    return;
  }
  const lacksParent = run.record.resumedFrom !== '' && committed === 0;
  if (plan === undefined || lacksParent) {
    beginAnew(turn, run, candidates);
    return;
  }
  if (plan.restores !== undefined && !mayRestore(turn, run, plan.restores)) return;
  if (plan.restores !== undefined) loseSaving(turn, run);
  if (formation.afterStillness) giveUpLostReports(turn, run, plan.record.committed);
  run.formation = { kind: 'recording', plan };
  if (run.record.state === 'queued') run.record = { ...run.record, state: 'running', reason: '' };
  write(turn, { kind: 'generation', job: run.record.job, record: plan.record });
}

/**
 * Whoever they were healing from is gone, and nothing was saved. They begin anew, unless one who has the state returns before they have
 * loaded again.
 */
function beginAnew(turn: Turn, run: JobRun, candidates: readonly Candidate[]): void {
  if (run.record.resumedFrom !== '') {
    const reason = `no checkpoint of job ${run.record.resumedFrom} can be restored`;
    endJob(turn, run, 'failed', reason, '');
    return;
  }
  logJob(turn, run, 'warn', 'no worker has the state');
  run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
  for (const { worker } of candidates) release(turn, worker, 'nobody is left to heal from');
}

/** The generation is in etcd. If its roster is still whole it begins; otherwise the next one is prepared. */
export function startRecorded(turn: Turn, run: JobRun, generation: number): void {
  const { formation } = run;
  if (formation.kind !== 'recording' || formation.plan.record.generation !== generation) return;
  run.lastRecord = formation.plan.record;
  const { record: started, restores } = formation.plan;
  run.formation = { kind: 'started', record: started, sinceMs: turn.nowMs, restores };
  run.redoing = started.committed;
  forgetDigestsAfter(run, started.committed);
  // Whoever heals has forgotten that it was to finish.
  const finisher = started.roster.find((member) => member.worker === run.finishing?.worker);
  if (finisher === undefined || finisher.heals) run.finishing = undefined;
  if (lostMember(turn, run) === undefined) begin(turn, run, formation.plan);
}

function begin(turn: Turn, run: JobRun, plan: GenerationPlan): void {
  const members = plan.record.roster.flatMap(({ worker: name, heals }) => {
    const worker = turn.state.workers.get(name);
    if (worker === undefined) return [];
    worker.healing = heals;
    return [worker];
  });
  sendAll(turn, members, { kind: 'start', ...plan.start, reportsFrom: run.record.progress.committed });
  emit(turn, run, {
    kind: 'generationStarted',
    generation: plan.record.generation,
    step: plan.record.committed,
    workers: plan.record.roster.map((member) => member.worker),
    reason: plan.reason,
    restoredFrom: plan.restores?.path ?? '',
  });
  const workers = plan.record.roster.length;
  logJob(turn, run, 'info', 'generation started', { step: plan.record.committed, workers, reason: plan.reason });
}

/** A member of the running generation that is gone or came back as another incarnation or with another engine. */
function lostMember(turn: Turn, run: JobRun): string | undefined {
  if (run.formation.kind !== 'started') return undefined;
  const { job } = run.record;
  const isThere = ({ worker: name, incarnation, engineStart }: Member): boolean => {
    const worker = turn.state.workers.get(name);
    if (worker?.incarnation !== incarnation || worker.engineStart !== engineStart) return false;
    return worker.job === job && isReady(turn, run, worker);
  };
  return run.formation.record.roster.find((member) => !isThere(member))?.worker;
}

/** While no member is lost. */
function joiner(turn: Turn, run: JobRun): string | undefined {
  if (run.formation.kind !== 'started') return undefined;
  const { roster } = run.formation.record;
  // Nearly always so, and this is asked at every report.
  if (countOf(turn.state, run.record.job) <= roster.length) return undefined;
  const members = new Set(roster.map((member) => member.worker));
  return ready(turn, run).find((worker) => !members.has(worker.worker))?.worker;
}

function gather(turn: Turn, run: JobRun, sinceMs: number): void {
  const loaded = ready(turn, run);
  if (loaded.length === 0) {
    run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
    return;
  }
  const waitedLong = turn.nowMs - sinceMs >= turn.state.settings.gatherMs;
  if (
    loaded.length < run.record.spec.workersMin ||
    (loaded.length < countOf(turn.state, run.record.job) && !waitedLong)
  )
    return;
  if (turn.nowMs < run.restoreNotBeforeMs) return;
  prepare(turn, run, run.lastRecord === undefined ? 'the job starts' : 'enough workers are back');
}

/** A new leader finds every worker of the stored generation in it: nothing changes. */
function adopt(turn: Turn, run: JobRun, deadlineMs: number): void {
  const stored = run.lastRecord;
  const whole = stored?.roster.every((member) => {
    const worker = turn.state.workers.get(member.worker);
    const holding = worker?.holding;
    return (
      worker?.incarnation === member.incarnation &&
      worker.facts !== undefined &&
      holding?.job === run.record.job &&
      holding.generation === stored.generation &&
      holding.started
    );
  });
  if (stored !== undefined && whole) {
    run.formation = { kind: 'started', record: stored, sinceMs: turn.nowMs, restores: restoredBy(run, stored) };
    run.redoing = stored.committed;
    emit(turn, run, { kind: 'leaderChanged', term: turn.leading.term });
  } else if (turn.nowMs >= deadlineMs) {
    run.formation = { kind: 'gathering', sinceMs: turn.nowMs };
    emit(turn, run, { kind: 'leaderChanged', term: turn.leading.term });
    if (ready(turn, run).length >= run.record.spec.workersMin) prepare(turn, run, 'a new leader took over');
  }
}

/** Whoever has not answered in time is lost; what it does later is refused because its session is closed. */
function awaitAnswers(turn: Turn, run: JobRun): void {
  const { formation } = run;
  if (formation.kind !== 'preparing') return;
  const present = new Set(ready(turn, run).map((worker) => worker.worker));
  for (const name of formation.asked) {
    if (present.has(name)) continue;
    formation.asked.delete(name);
    // Should it be there again in time, it holds nothing of that.
    formation.answers.delete(name);
  }
  const silent = [...formation.asked].filter((name) => !formation.answers.has(name));
  if (silent.length === 0) record(turn, run);
}

/** Names of workers that owe an answer past the deadline. */
export function overdue(turn: Turn, run: JobRun): readonly string[] {
  const { formation } = run;
  // A job that has ended meanwhile waits for nobody.
  if (run.ending || formation.kind !== 'preparing' || turn.nowMs < formation.deadlineMs) return [];
  return [...formation.asked].filter((name) => !formation.answers.has(name));
}

/** Looks at a job after anything has changed, and does the next thing that its membership needs. */
export function reconcile(turn: Turn, run: JobRun): void {
  if (run.ending || (run.record.state !== 'queued' && run.record.state !== 'running')) return;
  const { formation } = run;
  switch (formation.kind) {
    case 'gathering':
      gather(turn, run, formation.sinceMs);
      break;
    case 'adopting':
      adopt(turn, run, formation.deadlineMs);
      break;
    case 'preparing':
      awaitAnswers(turn, run);
      break;
    case 'recording':
      break;
    case 'started': {
      const lost = lostMember(turn, run);
      const change = lost === undefined ? wish(turn, run, formation) : `${lost} was lost`;
      if (change !== undefined) prepare(turn, run, change);
      else beginAnewIfStill(turn, run, formation.sinceMs);
      break;
    }
  }
  failIfHopeless(turn, run);
}

/** A change that nobody's loss demands: a joiner, or better blocks. */
function wish(turn: Turn, run: JobRun, { record, sinceMs, restores }: Started): string | undefined {
  // A joiner that comes while all the others read from storage would make them begin again.
  if (restores !== undefined || allCommitted(run, () => liveMembers(turn, run))) return undefined;
  const joins = joiner(turn, run);
  if (joins !== undefined) return `${joins} joins`;
  const uneven = imbalance(turn, run, record, sinceMs);
  if (uneven !== undefined) {
    run.balancedMs = turn.nowMs;
    return uneven;
  }
  return undefined;
}

/** Everybody has made the last step and has said so, and still there are steps that nobody has reported. */
function lacksReports(turn: Turn, run: JobRun): boolean {
  const steps = totalSteps(run);
  const digests = run.digests.get(steps);
  if (digests === undefined || run.record.progress.committed >= steps) return false;
  const members = liveMembers(turn, run);
  return members.length > 0 && members.every(({ worker }) => digests.has(worker));
}

/** A fresh start for an exchange that has come to rest. */
function beginAnewIfStill(turn: Turn, run: JobRun, sinceMs: number): void {
  if (lacksReports(turn, run)) {
    prepare(turn, run, 'reports of steps are missing', true);
    return;
  }
  const stillMs = turn.nowMs - Math.max(sinceMs, run.lastCommitMs);
  // Nearly always so, and this is asked at every report: a median would be a fifth of what a report costs.
  if (stillMs < STILL_MS) return;
  const members = liveMembers(turn, run);
  if (stillMs < STILL_HEALING_MS && members.some(({ healing }) => healing)) return;
  if (stillMs < STILL_FACTOR * medianOf(run.stepTimesMs) || allCommitted(run, () => members)) return;
  prepare(turn, run, `no step for ${Math.round(stillMs / 1000)} s`, true);
}

/** A job whose engines crash again and again without a step in between has no future. */
function failIfHopeless(turn: Turn, run: JobRun): void {
  for (const [worker, { count, reason }] of run.crashes) {
    if (count > turn.state.settings.crashLimit) {
      const often = `the engine on ${worker} crashed ${count} times without a step in between`;
      endJob(turn, run, 'failed', `${often}, the last time: ${reason}`, '');
      return;
    }
  }
}
