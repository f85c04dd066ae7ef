/** What the data plane's own plan of a step pulls, without pulling it. */
import { HostGroups } from '../../worker/collective/host_groups.js';
import { ReducePlan } from '../../worker/collective/reduce_plan.js';
import { routesFor } from '../../worker/collective/routes.js';
import { BUCKET_BYTES, chunkCount } from '../../worker/collective/segments.js';
import type { Placement, StepCost, StepShape } from './formulas.js';

/** The plan lets so many buckets out at once, whatever their inputs. */
const WINDOW_BUCKETS = 2;

export type PlannedCost = Pick<StepCost, 'bytes' | 'requests' | 'frames' | 'streams'>;

/** Of one rank, each on a host of its own, for a vector that fits the window: every pull of the step is let out at once. */
export function plannedCost(shape: StepShape, placements: readonly Placement[], rank: number): PlannedCost {
  const { workers, vectorBytes, microbatches } = shape;
  if (vectorBytes > WINDOW_BUCKETS * BUCKET_BYTES) throw new Error('the vector is longer than the window');
  const groups = new HostGroups(Array.from({ length: workers }, (_, host) => `host-${host}:1`));
  const routes = routesFor({ vectorBytes, rank, groups, microbatches, placements });
  const pulls = new ReducePlan({ vectorBytes, rank, routes }).nextPulls();
  const facts = placements.filter((one) => one.rank !== rank).length;
  return {
    bytes: pulls.reduce((sum, { length }) => sum + length, 0),
    requests: pulls.length + facts,
    frames: pulls.reduce((sum, { length }) => sum + chunkCount(length), 0) + facts,
    streams: new Set(pulls.map((pull) => pull.rank)).size,
  };
}
