/** How a worker leaves one generation and enters the next: prepare, start, catch up, heal. */
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { CheckpointEvent } from '../checkpoint/checkpoints.js';
import type { DataPlaneEvent } from '../collective/data_plane.js';
import { openJob } from './engine_life.js';
import type { EngineOp } from './engine_protocol.js';
import { partRestored, readPart, stopRestore } from './restore.js';
import type { JobRun } from './state.js';
import { placementsOf, runStep, writeSlot } from './step.js';
import { holdingOf, log, send, type Turn, tellDataPlane, tellEngine, tellNow, totalSteps } from './turn.js';

type Message<K extends CoordinatorMessage['kind']> = Extract<CoordinatorMessage, { kind: K }>;
type Start = Message<'start'>;
/** Operations of the engine that read or write the state memory. */
const USES_STATE_MEMORY: ReadonlySet<EngineOp> = new Set(['export_state', 'import_state']);

type StateFetched = Extract<DataPlaneEvent, { kind: 'state_fetched' }>;

/**
 * Stops exchanging and says what is held. The reduce in flight is thrown away, so that no step mixes two generations' sums; partials
 * and the committed reduced vector stay.
 */
export function prepare(turn: Turn, run: JobRun, message: Message<'prepare'>): void {
  if (message.generation <= run.generation) {
    send(turn, { kind: 'refused', job: run.job, term: turn.state.term, generation: run.generation });
    return;
  }
  const holding = holdingOf(run);
  run.generation = message.generation;
  run.started = false;
  run.membership = undefined;
  run.resumeWith = undefined;
  run.waitsForSlot = undefined;
  stopRestore(turn, run);
  tellDataPlane(turn, run, { kind: 'stop_generation', job: run.job });
  const nodes =
    holding.hasState && run.inFlight?.step === run.committed
      ? [...run.inFlight.nodes.values()].map((own) => own.node)
      : [];
  send(turn, {
    kind: 'prepared',
    job: run.job,
    generation: message.generation,
    holding,
    nodes,
    hasReduced: run.reducedStep !== undefined && run.reducedStep === run.committed - 1,
  });
}

export function start(turn: Turn, run: JobRun, message: Start): void {
  if (message.generation !== run.generation || run.started) {
    send(turn, { kind: 'refused', job: run.job, term: turn.state.term, generation: run.generation });
    return;
  }
  const { worker, incarnation } = turn.state.identity;
  const rank = message.roster.findIndex((member) => member.worker === worker && member.incarnation === incarnation);
  const me = message.roster[rank];
  if (me === undefined) throw new Error(`started in generation ${message.generation} without a place in its roster`);
  if (me.heals && run.exchanged) reopen(turn, run);
  run.started = true;
  run.exchanged = true;
  const placements = placementsOf(message.roster, run.spec.microbatches);
  run.membership = { rank, roster: message.roster, placements, since: message.committed };
  tellDataPlane(turn, run, {
    kind: 'start_generation',
    job: run.job,
    term: message.term,
    generation: message.generation,
    rank,
    roster: message.roster.map((member) => ({
      worker: member.worker,
      incarnation: member.incarnation,
      peerAddress: member.peerAddress,
    })),
  });
  resendReports(turn, run, message.reportsFrom);
  // A generation that began with fewer steps, and without this worker, has made the coordinator forget it.
  if (!me.heals && run.lastDigest !== undefined) send(turn, run.lastDigest);
  if (message.healFrom.includes(rank)) {
    tellEngine(turn, run, { command: 'export_state' });
  }
  if (me.heals) heal(turn, run, message);
  else if (run.committed === message.committed) runStep(turn, run, message.inFlight);
  else if (run.committed === message.committed - 1) catchUp(turn, run, message);
  else throw new Error(`started at step ${message.committed} with ${run.committed} committed and nothing to heal from`);
}

/**
 * One step behind: the others have the reduced vector of the step that this worker did not see the end of. Its own partials of it stay
 * on the books until then: should the others be lost with the vector, it finishes the step after all, and peers may still read them.
 */
function catchUp(turn: Turn, run: JobRun, message: Start): void {
  run.resumeWith = message.inFlight;
  writeSlot(turn, run, {
    kind: 'fetch_reduced',
    job: run.job,
    step: run.committed,
    ranks: message.reducedAt,
  });
}

/**
 * Whoever heals begins anew. Partials that it has published, of another history or in slots that are written again, must not be
 * served under the same names.
 */
function reopen(turn: Turn, run: JobRun): void {
  if (run.facts === undefined) return;
  tellDataPlane(turn, run, { kind: 'close_job', job: run.job });
  openJob(turn, run, run.facts);
}

/**
 * Takes the state over from peers, or with them from a checkpoint. Meanwhile this worker already reduces its segments of the step in flight, for which it needs no
 * parameters; what its engine has to do waits until the state is there.
 */
function heal(turn: Turn, run: JobRun, message: Start): void {
  run.committed = message.committed;
  run.reducedStep = undefined;
  run.inFlight = undefined;
  run.lastDigest = undefined;
  run.finishing = undefined;
  // What is being written of a snapshot must stay as it is, whatever becomes of the state.
  if (run.snapshot?.orderedBy === undefined) run.snapshot = undefined;
  run.snapshotAt = undefined;
  for (const outstanding of run.outstanding) outstanding.stale = true;
  // What waited for a state that will not be fetched any more was never told to the engine, so it will not answer it.
  const untold = (run.healing?.deferred ?? []).filter(({ what }) => what.command === 'apply').length;
  run.applying.splice(run.applying.length - untold);
  for (const applying of run.applying) applying.discarded = true;
  const { committed, generation, restore, healFrom } = message;
  run.healing = {
    committed,
    generation,
    restore,
    healFrom,
    begun: false,
    failure: undefined,
    readBytes: 0,
    stage: 'fetching',
    deferred: [],
  };
  fetchIfFree(turn, run);
  runStep(turn, run, message.inFlight);
}

/**
 * Called after each answer of the engine: begins to fill the state memory once the engine is done with it. A slow engine may have an
 * export or an import before it still, which would overwrite what is fetched, or read half of it.
 */
export function fetchIfFree(turn: Turn, run: JobRun): void {
  const { healing, membership, job } = run;
  if (healing === undefined || healing.begun || membership === undefined) return;
  if (healing.generation !== run.generation || run.outstanding.some(({ what }) => USES_STATE_MEMORY.has(what))) return;
  healing.begun = true;
  const { committed, restore, healFrom } = healing;
  if (restore !== undefined) readPart(turn, run, membership);
  else tellDataPlane(turn, run, { kind: 'fetch_state', job, committed, ranks: healFrom });
}

export function partArrived(turn: Turn, run: JobRun, event: Extract<CheckpointEvent, { kind: 'part_restored' }>): void {
  if (partRestored(turn, run, event)) stateFetched(turn, run, event);
}

export function stateFetched(turn: Turn, run: JobRun, event: Pick<StateFetched, 'generation' | 'bytes'>): void {
  const { healing } = run;
  if (healing?.stage !== 'fetching' || !run.started || event.generation !== run.generation) return;
  healing.stage = 'importing';
  tellEngine(turn, run, { command: 'import_state', bytes: event.bytes });
  for (const command of healing.deferred.splice(0)) tellNow(turn, run, command);
}

export function stateImported(turn: Turn, run: JobRun): void {
  const { healing } = run;
  if (healing?.stage !== 'importing') return;
  run.healing = undefined;
  log(turn, 'info', 'healed', { job: run.job, step: healing.committed, generation: healing.generation });
  send(turn, { kind: 'healed', job: run.job, generation: healing.generation, committed: healing.committed });
  if (run.facts !== undefined && run.committed >= totalSteps(run, run.facts))
    tellEngine(turn, run, { command: 'digest' });
}

/** The engine has written its state: peers that heal may pull it. */
export function stateExported(
  turn: Turn,
  run: JobRun,
  committed: number,
  { bytes, sha256 }: { readonly bytes: number; readonly sha256: string },
): void {
  tellDataPlane(turn, run, { kind: 'publish_state', job: run.job, committed, bytes, sha256 });
}

/**
 * Says again what the coordinator may not have. In the course of a generation only its first worker reports, but that one may be
 * new, or gone with a report unsent; so at a change everybody sends what was not acknowledged, and the coordinator takes each step once.
 */
export function resendReports(turn: Turn, run: JobRun, from: number): void {
  for (const report of run.reports) if (report.step >= from) send(turn, report);
}

export function peerFailed(turn: Turn, run: JobRun, event: Extract<DataPlaneEvent, { kind: 'peer_failed' }>): void {
  if (!run.started || event.generation !== run.generation) return;
  send(turn, {
    kind: 'peerLost',
    job: run.job,
    generation: event.generation,
    worker: event.worker,
    reason: event.reason,
  });
}
