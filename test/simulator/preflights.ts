/** What the workers of a seed find when they measure themselves: most are fit, some are not until everything is repaired. */
import type { Preflight } from '../../shared/wire/jobs.js';
import type { MeasuredPeer } from '../../shared/wire/session.js';
import { Random } from './random.js';

/** No engine starts; products are slow; what is found comes too late. */
const FAILINGS = ['broken', 'slow', 'late'] as const;
export type Failing = (typeof FAILINGS)[number];

export interface PreflightPlan {
  readonly failings: ReadonlyMap<string, Failing>;
  /** When an operator takes a worker back, whatever was found. */
  readonly takenBack: readonly { readonly worker: string; readonly atMs: number }[];
}

/** A stream of its own, so that nothing else of a seed depends on it. */
const STREAM = 3;
const SHARE = 0.3;

/** Undefined in seeds whose workers do not measure themselves. */
export function preflightPlanOf(seed: number, workers: readonly string[]): PreflightPlan | undefined {
  const random = new Random(seed, STREAM);
  if (!random.chance(SHARE)) return undefined;
  const failings = new Map(
    workers.flatMap((name) => (random.chance(0.3) ? [[name, random.pick(FAILINGS)] as const] : [])),
  );
  const takenBack = [...failings.keys()].flatMap((worker) =>
    random.chance(0.2) ? [{ worker, atMs: random.between(500, 8_000) }] : [],
  );
  return { failings, takenBack };
}

export function preflightOf(
  failing: Failing | undefined,
  timeMs: number,
  tookMs: number,
  peers: readonly MeasuredPeer[],
): Preflight {
  const isBroken = failing === 'broken';
  return {
    timeMs: Math.max(0, Math.round(timeMs)),
    tookMs,
    engineProblem: isBroken ? 'it cannot be started' : '',
    engineStartMs: isBroken ? 0 : tookMs,
    torch: '2',
    device: isBroken ? '' : 'cpu',
    deviceName: isBroken ? '' : 'cpu',
    matmulGflops: isBroken ? 0 : failing === 'slow' ? 10 : 100,
    freeMemoryBytes: 2 ** 34,
    freeDeviceBytes: 0,
    diskFolder: '/code',
    diskProblem: '',
    freeDiskBytes: 2 ** 34,
    diskBytesPerSecond: 1e9,
    peers: peers.map(({ worker }) => ({ worker, sameHost: false, bytesPerSecond: 1e9, problem: '' })),
  };
}
