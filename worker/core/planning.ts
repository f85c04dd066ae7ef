/** The samples of coming steps, planned while the engine computes: no step waits for its own plan. */
import { samplesOf } from '../../shared/plan.js';
import { nodeKey, type TreeNode } from '../../shared/tree.js';
import type { EngineFacts } from '../../shared/wire/session.js';
import type { Ahead } from './engine_protocol.js';
import type { JobRun, Membership, NodePlacement } from './state.js';
import { planShapeOf, totalSteps } from './turn.js';

/** The step after the one in flight, and the one of which the engine is then told ahead. */
const STEPS_AHEAD = 2;

type Samples = readonly (readonly number[])[];

function keyOf(step: number, node: TreeNode): string {
  return `${step} ${nodeKey(node)}`;
}

/** Of each microbatch of the node. */
export function samplesFor(run: JobRun, facts: EngineFacts, step: number, node: TreeNode): Samples {
  return run.planned.get(keyOf(step, node)) ?? samplesOf(planShapeOf(run, facts), step, node.lo, node.length);
}

/** What of the placements is this worker's. */
export function ownNodes(membership: Membership, placements: readonly NodePlacement[]): readonly TreeNode[] {
  return placements.filter(({ rank }) => rank === membership.rank).map(({ node }) => node);
}

/** To be called while the engine is busy, or waits for others. */
export function planAhead(run: JobRun): void {
  const { facts, membership, committed } = run;
  if (facts === undefined || membership === undefined) return;
  const nodes = ownNodes(membership, membership.placements);
  const planned = new Map<string, Samples>();
  const end = Math.min(committed + 1 + STEPS_AHEAD, totalSteps(run, facts));
  for (let step = committed + 1; step < end; step++) {
    for (const node of nodes) planned.set(keyOf(step, node), samplesFor(run, facts, step, node));
  }
  run.planned = planned;
}

/** The first microbatch that this worker will compute after `step` if nothing changes. */
export function aheadOf(run: JobRun, facts: EngineFacts, step: number): Ahead | null {
  const { membership } = run;
  const node = membership?.placements.find(({ rank }) => rank === membership.rank)?.node;
  if (node === undefined || step + 1 >= totalSteps(run, facts)) return null;
  const [samples = []] = samplesFor(run, facts, step + 1, node);
  return { step: step + 1, microbatch: node.lo, samples };
}
