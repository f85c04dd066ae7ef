import type { Preflight } from '../../../shared/wire/jobs.js';

const GIB = 2 ** 30;

/** Of a machine that is fit; `changes` make it something else. */
export function knownPreflight(changes: Partial<Preflight> = {}): Preflight {
  return {
    timeMs: 1,
    tookMs: 4_000,
    engineProblem: '',
    engineStartMs: 2_000,
    torch: '2.1.0',
    device: 'cpu',
    deviceName: 'cpu',
    matmulGflops: 100,
    freeMemoryBytes: 8 * GIB,
    freeDeviceBytes: 0,
    diskFolder: '/code',
    diskProblem: '',
    freeDiskBytes: 50 * GIB,
    diskBytesPerSecond: 500e6,
    peers: [],
    ...changes,
  };
}
