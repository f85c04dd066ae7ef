/**
 * `npm run bench:scaling`: what one step costs a worker as the number of workers grows. Up to 8 workers real data planes exchange a vector
 * on this machine, and what they pull is compared with the formulas of docs/scaling.md; up to 1,000 the plan of the data plane is.
 */
import Table from 'cli-table3';
import { Cluster, Gradients, placementsFor, reduceOn } from '../test/worker/collective/test_worker.js';
import { BUCKET_BYTES } from '../worker/collective/segments.js';
import { connectionsTo } from './scaling/connections.js';
import { placementsOf, type StepShape, stepCostOf, twoLevelCost } from './scaling/formulas.js';
import { plannedCost } from './scaling/planned.js';

const VECTOR_BYTES = 2 * BUCKET_BYTES;
const MOST_REAL_WORKERS = 8;
const MEASURED: readonly (readonly [number, number])[] = [
  [2, 8],
  [3, 8],
  [4, 8],
  [5, 8],
  [6, 16],
  [7, 16],
  [8, 8],
  [8, 12],
];
const PLANNED: readonly (readonly [number, number])[] = [
  [16, 16],
  [64, 64],
  [100, 128],
  [128, 128],
  [256, 256],
  [500, 512],
  [1000, 1024],
  [1000, 1000],
];
/** A model of 125 million parameters, in fp32. */
const LARGE_BYTES = 500_000_000;
const BATCHED_BUCKETS = 16;

const mean = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0) / values.length;
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(2);
const difference = (real: number, formula: number): string => `${((real / formula - 1) * 100).toFixed(2)} %`;

async function measured(cluster: Cluster, workers: number, microbatches: number) {
  const shape: StepShape = { workers, microbatches, vectorBytes: VECTOR_BYTES };
  const all = cluster.begin(workers, { elements: VECTOR_BYTES / 4, microbatches });
  const placements = placementsFor(
    microbatches,
    all.map(() => 1),
  );
  const gradients = new Gradients({ elements: VECTOR_BYTES / 4, microbatches }, 1);
  const events = await reduceOn(all, 0, placements, gradients);
  const costs = all.map((_, rank) => stepCostOf(shape, placements, rank));
  return {
    workers,
    microbatches,
    partials: placements.length,
    pulled_bytes: Math.round(mean(events.map((event) => event.pulledBytes))),
    formula_bytes: Math.round(mean(costs.map((cost) => cost.bytes + cost.factsBytes))),
    connections: connectionsTo(new Set(all.map((worker) => worker.plane.port))),
    formula_streams: workers * (workers - 1),
  };
}

function planned(workers: number, microbatches: number) {
  const shape: StepShape = { workers, microbatches, vectorBytes: VECTOR_BYTES };
  const placements = placementsOf(shape);
  const ranks = [0, Math.floor(workers / 3), workers - 1];
  const plans = ranks.map((rank) => plannedCost(shape, placements, rank));
  const costs = ranks.map((rank) => stepCostOf(shape, placements, rank));
  const large = { ...shape, vectorBytes: LARGE_BYTES };
  const one = stepCostOf(large, placements, 0);
  const two = twoLevelCost(large, BATCHED_BUCKETS);
  return {
    workers,
    microbatches,
    partials: placements.length,
    plan_bytes: Math.round(mean(plans.map((plan) => plan.bytes))),
    formula_bytes: Math.round(mean(costs.map((cost) => cost.bytes))),
    plan_requests: Math.round(mean(plans.map((plan) => plan.requests))),
    formula_requests: Math.round(mean(costs.map((cost) => cost.requests))),
    large: {
      bytes: Math.round(one.bytes),
      requests: one.requests,
      streams: one.streams,
      two_level_bytes: Math.round(two.bytes),
      two_level_requests: Math.round(two.requests),
      two_level_streams: Math.round(two.streams),
    },
  };
}

const cluster = await Cluster.start(MOST_REAL_WORKERS);
const real = [];
try {
  for (const [workers, microbatches] of MEASURED) real.push(await measured(cluster, workers, microbatches));
} finally {
  await cluster.close();
}
const plans = PLANNED.map(([workers, microbatches]) => planned(workers, microbatches));

const realTable = new Table({
  head: [
    'workers',
    'microbatches',
    'partials',
    'MB a worker pulls',
    'by the formula',
    'difference',
    'connections so far',
  ],
});
for (const one of real) {
  const { workers, microbatches, partials, pulled_bytes, formula_bytes, connections } = one;
  const off = difference(pulled_bytes, formula_bytes);
  realTable.push([
    workers,
    microbatches,
    partials,
    megabytes(pulled_bytes),
    megabytes(formula_bytes),
    off,
    connections,
  ]);
}
const planTable = new Table({
  head: [
    'workers',
    'microbatches',
    'partials',
    'bytes: plan to formula',
    'requests: plan, formula',
    '500 MB: MB in; requests; streams',
    'in two levels',
  ],
});
for (const { workers, microbatches, partials, large, ...one } of plans) {
  planTable.push([
    workers,
    microbatches,
    partials,
    difference(one.plan_bytes, one.formula_bytes),
    `${one.plan_requests}, ${one.formula_requests}`,
    `${megabytes(large.bytes)}; ${large.requests}; ${large.streams}`,
    `${megabytes(large.two_level_bytes)}; ${large.two_level_requests}; ${large.two_level_streams}`,
  ]);
}
process.stdout.write(
  `One step of a vector of ${megabytes(VECTOR_BYTES)} MB between real data planes on this machine:\n${realTable.toString()}\n` +
    `One step as the data plane plans it:\n${planTable.toString()}\n`,
);
process.stdout.write(
  `${JSON.stringify({ event: 'scaling_benchmark', vector_bytes: VECTOR_BYTES, measured: real, planned: plans })}\n`,
);
