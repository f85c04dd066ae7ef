/** One step: compute the own part, exchange, commit, apply, and on to the next. */
import { CONSUMED_BYTES } from '../../shared/consumption.js';
import { filledMicrobatches } from '../../shared/plan.js';
import { coverOf, nodeKey, type TreeNode } from '../../shared/tree.js';
import type { EngineFacts, Member } from '../../shared/wire/session.js';
import { type DataPlaneEvent, FIRST_PARTIAL_SLOT, slotBytes } from '../collective/data_plane.js';
import { isOneShot } from '../collective/routes.js';
import type { EngineEvent } from './engine_protocol.js';
import { aheadOf, ownNodes, samplesFor } from './planning.js';
import { snapshotIfDue } from './snapshot.js';
import type { Applying, JobRun, Membership, NodePlacement, OwnNode, SlotWriter, StepReport } from './state.js';
import { planShapeOf, send, type Turn, tellDataPlane, tellEngine, totalSteps } from './turn.js';

/** Reports kept for a coordinator that does not answer. Past it the worker waits rather than forget what was consumed. */
export const REPORTS_KEPT = 16_384;

const TIMES_KEPT = 31;

function keepNewest(times: number[], time: number): void {
  times.push(time);
  if (times.length > TIMES_KEPT) times.shift();
}

/** Contiguous blocks, as the roster has them. */
export function placementsOf(roster: readonly Member[], microbatches: number): readonly NodePlacement[] {
  return roster.flatMap((member, rank) =>
    coverOf({ lo: member.lo, length: member.length }, microbatches).map((node) => ({ node, rank })),
  );
}

function slotsOf(nodes: ReadonlyMap<string, OwnNode>): readonly number[] {
  return [...nodes.values()].map((own) => own.slot);
}

function freeSlots(run: JobRun, nodes: ReadonlyMap<string, OwnNode>, count: number): readonly number[] {
  const taken = new Set([...slotsOf(nodes), ...run.readSlots]);
  const free: number[] = [];
  for (let slot = FIRST_PARTIAL_SLOT; free.length < count; slot++) if (!taken.has(slot)) free.push(slot);
  return free;
}

function openInFlight(turn: Turn, run: JobRun): NonNullable<JobRun['inFlight']> {
  if (run.inFlight?.step === run.committed) return run.inFlight;
  run.inFlight = {
    step: run.committed,
    nodes: new Map(),
    startedMs: turn.nowMs,
    computedMs: turn.nowMs,
    dataMs: 0,
    computeMs: 0,
    isOneShot: false,
  };
  return run.inFlight;
}

/** Computes what is placed here and not yet held or under way. */
function computeMissing(turn: Turn, run: JobRun, facts: EngineFacts, mine: readonly TreeNode[]): void {
  const inFlight = openInFlight(turn, run);
  const missing = mine.filter((node) => !inFlight.nodes.has(nodeKey(node)));
  if (missing.length === 0) return;
  const slots = freeSlots(run, inFlight.nodes, missing.length);
  const bytes = slotBytes(facts.vectorBytes);
  turn.commands.push({
    kind: 'reserve_memory',
    start: run.engineStart,
    bytes: (Math.max(...slots) + 1) * bytes,
  });
  const runs = missing.map((node, index) => {
    const slot = slots[index] ?? FIRST_PARTIAL_SLOT;
    inFlight.nodes.set(nodeKey(node), { node, slot, buckets: 0, facts: undefined });
    return {
      lo: node.lo,
      length: node.length,
      at: slot * bytes,
      samples: samplesFor(run, facts, inFlight.step, node),
    };
  });
  tellEngine(turn, run, { command: 'compute', step: inFlight.step, runs, ahead: aheadOf(run, facts, inFlight.step) });
}

/**
 * Lets the data plane write the slot of a step, but not before the engine has applied what is in it: the step two before. Whoever
 * has partials to compute has done so by then, but a worker with nothing to compute would run ahead of its engine.
 */
export function writeSlot(turn: Turn, run: JobRun, writer: SlotWriter): void {
  if (run.applying.some(({ step }) => step % 2 === writer.step % 2)) run.waitsForSlot = writer;
  else tellDataPlane(turn, run, writer);
}

/** Begins or continues step number `committed` with nodes placed as given. */
export function runStep(turn: Turn, run: JobRun, placements: readonly NodePlacement[]): void {
  const { facts, membership } = run;
  if (facts === undefined || membership === undefined) return;
  if (run.committed >= totalSteps(run, facts)) {
    run.inFlight = undefined;
    return;
  }
  computeMissing(turn, run, facts, ownNodes(membership, placements));
  if (run.inFlight !== undefined)
    run.inFlight.isOneShot = isOneShot(facts.vectorBytes, membership.roster.length, placements);
  writeSlot(turn, run, { kind: 'reduce', job: run.job, step: run.committed, placements });
}

/**
 * The beginning of a partial is final in its slot: peers may read so much of it. It is not held for that: should the engine fail now,
 * whoever computes the node again gets the same bytes.
 */
export function bucketsComputed(turn: Turn, run: JobRun, event: Extract<EngineEvent, { event: 'buckets' }>): void {
  const { inFlight } = run;
  if (inFlight?.step !== event.step) return;
  const own = inFlight.nodes.get(nodeKey(event));
  if (own === undefined) return;
  const { node, slot } = own;
  const { buckets } = event;
  own.buckets = buckets;
  tellDataPlane(turn, run, { kind: 'publish_buckets', job: run.job, step: event.step, node, slot, buckets });
}

/** A partial is whole in its slot: peers may read it. */
export function partialComputed(turn: Turn, run: JobRun, event: Extract<EngineEvent, { event: 'partial' }>): void {
  const { inFlight } = run;
  if (inFlight?.step !== event.step) return;
  const own = inFlight.nodes.get(nodeKey(event));
  if (own === undefined) return;
  own.facts = { loss: event.loss, weight: event.weight, consumed: event.consumed };
  inFlight.dataMs += event.data_ms;
  inFlight.computeMs += event.compute_ms;
  inFlight.computedMs = turn.nowMs;
  keepNewest(run.microbatchTimesMs, (event.compute_ms + event.data_ms) / event.length);
  const { node, slot, facts } = own;
  tellDataPlane(turn, run, { kind: 'publish_partial', job: run.job, step: event.step, node, slot, facts });
}

/** The whole reduced gradient is here: this is the commit. */
export function reduced(turn: Turn, run: JobRun, event: Extract<DataPlaneEvent, { kind: 'reduced' }>): void {
  const { facts, membership } = run;
  if (facts === undefined || membership === undefined || !run.started) return;
  if (event.generation !== run.generation || event.step !== run.committed) return;
  const inFlight = run.inFlight?.step === event.step ? run.inFlight : undefined;
  run.committed += 1;
  run.reducedStep = event.step;
  run.inFlight = undefined;
  run.readSlots = inFlight?.isOneShot === true ? slotsOf(inFlight.nodes) : [];
  run.applying.push({
    step: event.step,
    facts: event.facts,
    pulledBytes: event.pulledBytes,
    startedMs: inFlight?.startedMs ?? turn.nowMs,
    dataMs: inFlight?.dataMs ?? 0,
    computeMs: inFlight?.computeMs ?? 0,
    computedMs: inFlight?.computedMs ?? turn.nowMs,
    reducedMs: turn.nowMs,
    gatherMs: event.gatherMs,
    generation: run.generation,
    discarded: false,
  });
  tellEngine(turn, run, {
    command: 'apply',
    step: event.step,
    at: (event.step % 2) * slotBytes(facts.vectorBytes),
    weight: event.facts.weight,
    filled: filledMicrobatches(planShapeOf(run, facts), event.step),
  });
  // In one shot others may still be reading this step's partials, until they publish those of the next.
  const read = run.readSlots.length > 0 ? 1 : 0;
  tellDataPlane(turn, run, { kind: 'drop_partials', job: run.job, step: run.committed - read });
  afterCommit(turn, run, facts, membership);
}

function afterCommit(turn: Turn, run: JobRun, facts: EngineFacts, membership: Membership): void {
  const { digestEvery, evaluateEvery } = run.spec;
  const last = run.committed >= totalSteps(run, facts);
  if (!last) snapshotIfDue(turn, run);
  if (last || (digestEvery > 0 && run.committed % digestEvery === 0)) tellEngine(turn, run, { command: 'digest' });
  if (!last && evaluateEvery > 0 && run.committed % evaluateEvery === 0 && membership.rank === 0) {
    tellEngine(turn, run, { command: 'evaluate' });
  }
  const placements = run.resumeWith ?? membership.placements;
  run.resumeWith = undefined;
  if (run.reports.length < REPORTS_KEPT) runStep(turn, run, placements);
}

type StepTimes = Pick<StepReport, 'stepMs' | 'dataMs' | 'computeMs' | 'reduceMs' | 'gatherMs' | 'applyMs'>;

/**
 * A step begins when the engine is done with the one before. Of reduce and gather only what comes after the own computation counts: before
 * that they cost no time. Each moment is counted once: what the engine did before this daemon heard that the step before was applied is
 * part of that one's time, so no more of the engine's own figures is taken than fits.
 */
function timesOf(run: JobRun, nowMs: number, applying: Applying, applyMs: number): StepTimes {
  const beganMs = Math.max(applying.startedMs, run.appliedMs);
  const computedMs = Math.max(applying.computedMs, beganMs);
  const reducedMs = Math.max(applying.reducedMs, computedMs);
  const engineMs = applying.dataMs + applying.computeMs;
  const fits = engineMs > 0 ? Math.min(1, (computedMs - beganMs) / engineMs) : 0;
  const gatherMs = Math.min(applying.gatherMs, reducedMs - computedMs);
  return {
    stepMs: nowMs - beganMs,
    dataMs: fits * applying.dataMs,
    computeMs: fits * applying.computeMs,
    reduceMs: reducedMs - computedMs - gatherMs,
    gatherMs,
    applyMs: Math.min(applyMs, nowMs - reducedMs),
  };
}

function reportOf(run: JobRun, nowMs: number, applying: Applying, applied: Extract<EngineEvent, { event: 'applied' }>) {
  const report: StepReport = {
    kind: 'stepCommitted',
    job: run.job,
    generation: applying.generation,
    step: applying.step,
    loss: applying.facts.loss,
    weight: applying.facts.weight,
    consumed: Buffer.from(applying.facts.consumed.join(''), 'hex'),
    ...timesOf(run, nowMs, applying, applied.apply_ms),
    pulledBytes: applying.pulledBytes,
    gradNorm: applied.grad_norm ?? undefined,
    skipped: applied.skipped,
  };
  if (report.consumed.length !== run.spec.microbatches * CONSUMED_BYTES) {
    throw new Error(`step ${report.step} has ${report.consumed.length} bytes of consumption digests`);
  }
  return report;
}

export function applied(turn: Turn, run: JobRun, event: Extract<EngineEvent, { event: 'applied' }>): void {
  const applying = run.applying.shift();
  if (applying?.step !== event.step) throw new Error(`the engine applied step ${event.step} out of order`);
  const waits = run.waitsForSlot;
  run.waitsForSlot = undefined;
  if (waits !== undefined) writeSlot(turn, run, waits);
  if (event.device_memory !== null) {
    run.deviceMemory = { usedBytes: event.device_memory.used, totalBytes: event.device_memory.total };
  }
  const report = applying.discarded ? undefined : reportOf(run, turn.nowMs, applying, event);
  run.appliedMs = turn.nowMs;
  if (report === undefined) return;
  run.reports.push(report);
  run.lastLoss = report.weight > 0 ? report.loss / report.weight : null;
  keepNewest(run.stepTimesMs, report.stepMs);
  if (run.membership === undefined) return;
  if (run.membership.rank === 0 || report.step < run.membership.since) send(turn, report);
}

/** The coordinator has the reports below `step`. A worker that waited for that goes on. */
export function acknowledged(turn: Turn, run: JobRun, below: number): void {
  const waited = run.reports.length >= REPORTS_KEPT;
  while (run.reports[0] !== undefined && run.reports[0].step < below) run.reports.shift();
  if (waited && run.reports.length < REPORTS_KEPT && run.started && run.inFlight === undefined && run.membership) {
    runStep(turn, run, run.membership.placements);
  }
}
