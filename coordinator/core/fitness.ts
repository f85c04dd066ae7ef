/**
 * What is to be thought of a pre-flight. Pure. A machine is unfit by itself if no engine starts on it or it lacks what every job needs; it
 * is unfit beside its peers if it is far below the median of at least three others with the same device. The factors are large: what is
 * measured are seconds of a machine that may have other things to do.
 */
import { LEAST_FREE_DISK_BYTES, LEAST_FREE_MEMORY_BYTES } from '../../shared/fitness.js';
import { medianOf } from '../../shared/median.js';
import { formatBytes } from '../../shared/text/numbers.js';
import type { Machine, Preflight } from '../../shared/wire/jobs.js';

/** With fewer others there is nothing to compare with. */
export const LEAST_OTHERS = 3;
/** Of processors and GPUs, and of the memory of GPUs: less than a quarter. */
const FAR_BELOW = 4;
/** Disks and networks are shared, and vary by themselves: less than a tenth. */
const FAR_BELOW_SHARED = 10;
/** An engine that starts within it is no late one, however fast the others are. */
const LATE_START_MS = 60_000;

/** What is wrong whatever the others are; empty if nothing is. */
export function unfitness(found: Preflight, machine: Machine): string {
  if (found.engineProblem !== '') return `its engine does not start: ${found.engineProblem}`;
  if (machine.gpus > 0 && found.device !== 'cuda') return `it offers a GPU, and its engine takes ${found.device}`;
  if (found.freeMemoryBytes < LEAST_FREE_MEMORY_BYTES)
    return `${formatBytes(found.freeMemoryBytes)} of memory are free, of at least ${formatBytes(LEAST_FREE_MEMORY_BYTES)}`;
  if (found.diskProblem !== '') return `the folder for code cannot be used: ${found.diskProblem}`;
  if (found.freeDiskBytes < LEAST_FREE_DISK_BYTES)
    return `${found.diskFolder} has ${formatBytes(found.freeDiskBytes)} free, of at least ${formatBytes(LEAST_FREE_DISK_BYTES)}`;
  return isolation(found);
}

/** Of a single peer it could be the peer's fault. */
function isolation({ peers }: Preflight): string {
  const [first] = peers;
  if (peers.length < 2 || first === undefined || peers.some(({ problem }) => problem === '')) return '';
  return `it cannot pull from ${peers.map(({ worker }) => worker).join(', ')}: ${first.problem}`;
}

interface Figure {
  readonly what: string;
  /** Undefined where it was not measured. */
  of(found: Preflight): number | undefined;
  readonly factor: number;
  readonly text: (value: number) => string;
}

/** The more, the better. */
const FIGURES: readonly Figure[] = [
  {
    what: 'matrix products',
    of: ({ matmulGflops }) => matmulGflops,
    factor: FAR_BELOW,
    text: (gflops) => `${gflops.toPrecision(3)} GFLOP/s`,
  },
  {
    what: 'free memory of the GPU',
    of: ({ device, freeDeviceBytes }) => (device === 'cuda' ? freeDeviceBytes : undefined),
    factor: FAR_BELOW,
    text: formatBytes,
  },
  {
    what: 'writing to the folder for code',
    of: ({ diskBytesPerSecond }) => diskBytesPerSecond,
    factor: FAR_BELOW_SHARED,
    text: perSecond,
  },
  { what: 'pulling from peers', of: networkSpeed, factor: FAR_BELOW_SHARED, text: perSecond },
];

function perSecond(bytes: number): string {
  return `${formatBytes(bytes)}/s`;
}

/** The best of the peers that are on other hosts and could be reached: the others may be slow themselves. */
function networkSpeed({ peers }: Preflight): number | undefined {
  const speeds = peers.filter(({ sameHost, problem }) => !sameHost && problem === '');
  return speeds.length === 0 ? undefined : Math.max(...speeds.map(({ bytesPerSecond }) => bytesPerSecond));
}

/** Pre-flights that can be compared with that of a worker. */
export function isAlike(left: Preflight, right: Preflight): boolean {
  return left.deviceName === right.deviceName;
}

/** In what it is far below the others, which are alike; empty if in nothing, or if too few have measured it. */
export function lag(found: Preflight, others: readonly Preflight[]): string {
  for (const { what, of, factor, text } of FIGURES) {
    const value = of(found);
    const measured = others.flatMap((other) => of(other) ?? []);
    if (value === undefined || measured.length < LEAST_OTHERS) continue;
    const median = medianOf(measured);
    if (value * factor < median)
      return `${what}: ${text(value)}, and the median of ${measured.length} others is ${text(median)}`;
  }
  return lateStart(found, others);
}

function lateStart({ engineStartMs }: Preflight, others: readonly Preflight[]): string {
  const medianMs = medianOf(others.map((other) => other.engineStartMs));
  if (others.length < LEAST_OTHERS || engineStartMs < LATE_START_MS || engineStartMs < FAR_BELOW * medianMs) return '';
  const [own, median] = [engineStartMs, medianMs].map((ms) => `${(ms / 1000).toFixed(1)} s`);
  return `start of an engine: ${own}, and the median of ${others.length} others is ${median}`;
}
