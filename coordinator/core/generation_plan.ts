/** From the answers to a prepare to the next generation: who is in it, who computes what, who heals from whom. Pure. */
import { blocksFor, childrenOf, coverOf, nodeKey, rootOf, type TreeNode } from '../../shared/tree.js';
import type { Member, Placement } from '../../shared/wire/session.js';
import { sharesFor } from './balance.js';
import { compareNames } from './name_order.js';
import type { CheckpointRecord, GenerationPlan, GenerationRecord, PreparedAnswer, Worker } from './state.js';

export interface Candidate {
  readonly worker: Worker;
  readonly answer: PreparedAnswer;
}

export interface PlanInput {
  readonly job: string;
  readonly generation: number;
  readonly term: number;
  readonly microbatches: number;
  readonly reason: string;
  /** Two workers at the same step hold the same bits, whatever became of them in between. */
  readonly strict: boolean;
  readonly candidates: readonly Candidate[];
  readonly last: GenerationRecord | undefined;
  /** The newest checkpoint that is whole. It is restored only if no candidate has a state that is as far. */
  readonly checkpoint: CheckpointRecord | undefined;
  /** See GenerationRecord. */
  readonly attempts: ReadonlyMap<string, number>;
}

function byName(left: Candidate, right: Candidate): number {
  return compareNames(left.worker.worker, right.worker.worker);
}

function withState(candidates: readonly Candidate[]): readonly Candidate[] {
  return candidates.filter(({ answer }) => answer.holding.hasState);
}

/**
 * The candidates that hold the state of the last generation: its members in the same incarnation, with the same engine. One that was to heal in it counts only
 * if it says that it was started in it; until then it may still have the state that it came with.
 */
function veterans({ candidates, last }: PlanInput): readonly Candidate[] {
  const roster = new Map((last?.roster ?? []).map((member) => [member.worker, member]));
  return withState(candidates).filter(({ worker, answer: { holding } }) => {
    const member = roster.get(worker.worker);
    if (member?.incarnation !== worker.incarnation || member.engineStart !== holding.engineStart) return false;
    return !member.heals || (holding.generation === last?.generation && holding.started);
  });
}

interface Trust {
  /** Steps committed by the furthest whose state counts: in a loose job one of the last generation if there is one, else any. */
  readonly committed: number;
  /** Those who need not heal if they are at that step. The states of others may have another history. */
  readonly trusted: ReadonlySet<Candidate>;
}

/** Of one that cannot have healed: it was never asked for a generation before. */
function initialState({ answer: { holding } }: Candidate): string | undefined {
  return holding.generation === 0 && holding.committed === 0 ? holding.facts?.initialState : undefined;
}

function trustOf(input: PlanInput): Trust {
  const old = veterans(input);
  const all = withState(input.candidates);
  const counting = input.strict || old.length === 0 ? all : old;
  const committed = Math.max(0, ...counting.map(({ answer }) => answer.holding.committed));
  if (input.strict) return { committed, trusted: new Set(all) };
  if (old.length > 0) return { committed, trusted: new Set(old) };
  // Nobody can tell whose history is whose, so one is chosen, and those that have begun like it and met nobody since.
  const chosen = [...all].sort(byName).find(({ answer }) => answer.holding.committed === committed);
  if (chosen === undefined) return { committed, trusted: new Set() };
  const initial = initialState(chosen);
  const alike = initial === undefined ? [] : all.filter((candidate) => initialState(candidate) === initial);
  return { committed, trusted: new Set([chosen, ...alike]) };
}

interface Standing {
  readonly candidate: Candidate;
  /** current: at the step; behind: one step short, reduced buckets will do; heals: needs a whole state. */
  readonly standing: 'current' | 'behind' | 'heals';
}

function standingsOf(input: PlanInput, { committed, trusted }: Trust): readonly Standing[] {
  const reducedSomewhere = [...trusted].some(
    ({ answer }) => answer.holding.committed === committed && answer.hasReduced,
  );
  return [...input.candidates].sort(byName).map((candidate) => {
    const own = trusted.has(candidate) ? candidate.answer.holding.committed : undefined;
    if (own === committed) return { candidate, standing: 'current' };
    if (own === committed - 1 && reducedSomewhere) return { candidate, standing: 'behind' };
    return { candidate, standing: 'heals' };
  });
}

/** Nodes of the step in flight that somebody holds, as high in the tree as they go, and the leaves that nobody has. */
function heldNodes(standings: readonly Standing[], microbatches: number): { held: Placement[]; missing: number[] } {
  const holders = new Map<string, number>();
  standings.forEach(({ candidate, standing }, rank) => {
    if (standing !== 'current') return;
    for (const node of candidate.answer.nodes) {
      if (!holders.has(nodeKey(node))) holders.set(nodeKey(node), rank);
    }
  });
  const held: Placement[] = [];
  const missing: number[] = [];
  const visit = (node: TreeNode): void => {
    const rank = holders.get(nodeKey(node));
    if (rank !== undefined) {
      held.push({ node, rank, held: true });
      return;
    }
    const children = childrenOf(node);
    if (children === undefined) missing.push(node.lo);
    else for (const child of children) visit(child);
  };
  visit(rootOf(microbatches));
  return { held, missing };
}

/** Runs of consecutive numbers. */
function runsOf(leaves: readonly number[]): readonly TreeNode[] {
  const runs: { lo: number; length: number }[] = [];
  for (const leaf of leaves) {
    const last = runs.at(-1);
    if (last !== undefined && last.lo + last.length === leaf) last.length += 1;
    else runs.push({ lo: leaf, length: 1 });
  }
  return runs;
}

/** Hands the missing leaves out to those that can compute now: whoever heals has no parameters yet, unless all have to heal first. */
function handOut(missing: readonly number[], standings: readonly Standing[], microbatches: number): Placement[] {
  const all = standings.map((_, rank) => rank);
  const now = all.filter((rank) => standings[rank]?.standing !== 'heals');
  const able = now.length > 0 ? now : all;
  const workers = able.flatMap((rank) => standings[rank]?.candidate.worker ?? []);
  const shares = blocksFor(missing.length, sharesFor(workers));
  return able.flatMap((rank, index) => {
    const share = shares[index];
    if (share === undefined) return [];
    const leaves = missing.slice(share.lo, share.lo + share.length);
    return runsOf(leaves).flatMap((run) => coverOf(run, microbatches).map((node) => ({ node, rank, held: false })));
  });
}

/** Somebody has a state that is as far as the checkpoint: peers come first, storage is not read. */
function hasState(input: PlanInput, { committed }: Trust): boolean {
  return withState(input.candidates).length > 0 && committed >= (input.checkpoint?.committed ?? 0);
}

/** undefined if no candidate has a state and there is no checkpoint either. */
export function planGeneration(input: PlanInput): GenerationPlan | undefined {
  const trust = trustOf(input);
  if (hasState(input, trust)) return planFrom(input, trust.committed, standingsOf(input, trust));
  if (input.checkpoint === undefined) return undefined;
  const standings = [...input.candidates].sort(byName).map((candidate): Standing => ({ candidate, standing: 'heals' }));
  return planFrom(input, input.checkpoint.committed, standings, input.checkpoint);
}

function planFrom(
  input: PlanInput,
  committed: number,
  standings: readonly Standing[],
  restores?: CheckpointRecord,
): GenerationPlan {
  const blocks = blocksFor(input.microbatches, sharesFor(standings.map(({ candidate }) => candidate.worker)));
  const roster: Member[] = standings.map(({ candidate, standing }, rank) => ({
    worker: candidate.worker.worker,
    incarnation: candidate.worker.incarnation,
    peerAddress: candidate.worker.peerAddress,
    lo: blocks[rank]?.lo ?? 0,
    length: blocks[rank]?.length ?? 0,
    heals: standing === 'heals',
    engineStart: candidate.answer.holding.engineStart,
  }));
  const { held, missing } = heldNodes(standings, input.microbatches);
  const current = standings.flatMap(({ standing }, rank) => (standing === 'current' ? [rank] : []));
  return {
    record: {
      job: input.job,
      generation: input.generation,
      term: input.term,
      committed,
      roster,
      attempts: Object.fromEntries(input.attempts),
    },
    reason: restores === undefined ? input.reason : `${input.reason}; restores the checkpoint of step ${committed}`,
    restores,
    start: {
      job: input.job,
      generation: input.generation,
      committed,
      roster,
      inFlight: [...held, ...handOut(missing, standings, input.microbatches)],
      reducedAt: current.filter((rank) => standings[rank]?.candidate.answer.hasReduced),
      healFrom: roster.some((member) => member.heals) ? current : [],
      restore: restores === undefined ? undefined : { path: restores.path, manifestSha256: restores.manifestSha256 },
    },
  };
}
