import { describe, expect, it } from 'vitest';
import { isAlike, lag, unfitness } from '../../../coordinator/core/fitness.js';
import type { Preflight } from '../../../shared/wire/jobs.js';
import { knownPreflight } from './known_preflight.js';

const MACHINE = { labels: new Map<string, string>(), cpus: 8, gpus: 0, memoryBytes: 2 ** 34 };
const GPU = { device: 'cuda', deviceName: 'H100', freeDeviceBytes: 80e9 };

function peer(worker: string, changes: Partial<Preflight['peers'][number]> = {}): Preflight['peers'][number] {
  return { worker, sameHost: false, bytesPerSecond: 1e9, problem: '', ...changes };
}

const BROKEN = { bytesPerSecond: 0, problem: 'connect ECONNREFUSED' };

describe('a machine by itself', () => {
  it.each<[string, Partial<Preflight>, number, RegExp]>([
    ['is fit', {}, 0, /^$/],
    ['is fit with the GPU that it offers', GPU, 1, /^$/],
    ['is fit with a GPU that it does not offer', GPU, 0, /^$/],
    ['has no engine', { engineProblem: 'ImportError: libcudart' }, 0, /engine does not start: ImportError: libcudart/],
    ['offers a GPU that its engine does not find', {}, 1, /offers a GPU, and its engine takes cpu/],
    ['has too little memory', { freeMemoryBytes: 400e6 }, 0, /^400 MB of memory are free, of at least 537 MB/],
    ['has just enough memory', { freeMemoryBytes: 512 * 2 ** 20 }, 0, /^$/],
    ['has a full disk', { freeDiskBytes: 90e6 }, 0, /^\/code has 90 MB free, of at least 268 MB/],
    ['has a disk that cannot be written to', { diskProblem: 'EROFS: read-only' }, 0, /folder for code.*EROFS/],
    ['reaches no peer', { peers: [peer('w1', BROKEN), peer('w2', BROKEN)] }, 0, /cannot pull from w1, w2.*REFUSED/],
    ['reaches one of two peers', { peers: [peer('w1', BROKEN), peer('w2')] }, 0, /^$/],
    ['does not reach the only peer', { peers: [peer('w1', BROKEN)] }, 0, /^$/],
  ])('that %s is judged so', (_, changes, gpus, reason) => {
    expect(unfitness(knownPreflight(changes), { ...MACHINE, gpus })).toMatch(reason);
  });
});

describe('a machine beside three others', () => {
  const speeds = (...gflops: readonly number[]) => gflops.map((matmulGflops) => knownPreflight({ matmulGflops }));
  const FAST = speeds(90, 100, 110);
  const network = (bytesPerSecond: number, sameHost = false) => ({ peers: [peer('w1', { bytesPerSecond, sameHost })] });
  const REMOTE = [1e9, 1.1e9, 0.9e9].map((bytesPerSecond) => knownPreflight(network(bytesPerSecond)));

  it.each<[string, Partial<Preflight>, readonly Preflight[], RegExp]>([
    ['as fast as they are', {}, FAST, /^$/],
    ['three times as slow', { matmulGflops: 34 }, FAST, /^$/],
    ['a quarter as fast', { matmulGflops: 25 }, FAST, /^$/],
    [
      'slower than a quarter',
      { matmulGflops: 24.9 },
      FAST,
      /^matrix products: 24.9 GFLOP\/s.* 3 others is 100 GFLOP\/s$/,
    ],
    ['slow beside two only', { matmulGflops: 1 }, speeds(100, 100), /^$/],
    ['slow like most of them', { matmulGflops: 10 }, speeds(10, 11, 100), /^$/],
    ['slow like one of them', { matmulGflops: 10 }, speeds(10, 100, 110, 120), /matrix products/],
    ['on a disk that is nine times as slow', { diskBytesPerSecond: 56e6 }, FAST, /^$/],
    [
      'on a disk that is eleven times as slow',
      { diskBytesPerSecond: 45e6 },
      FAST,
      /^writing to the folder for code: 45 MB\/s/,
    ],
    ['on a network that is eleven times as slow', network(90e6), REMOTE, /^pulling from peers: 90 MB\/s/],
    ['on a network that it has not measured', {}, REMOTE, /^$/],
    ['on a network that the others have not measured', network(1), FAST, /^$/],
    [
      'beside workers on one host, which say nothing of a network',
      network(1e6),
      FAST.map(() => knownPreflight(network(1e9, true))),
      /^$/,
    ],
    ['with an engine that starts after 20 s', { engineStartMs: 20_000 }, FAST, /^$/],
    [
      'with an engine that starts after two minutes',
      { engineStartMs: 120_000 },
      FAST,
      /^start of an engine: 120.0 s.* is 2.0 s/,
    ],
    [
      'with a GPU that others use',
      { ...GPU, freeDeviceBytes: 5e9 },
      FAST.map((one) => ({ ...one, ...GPU })),
      /^free memory of the GPU: 5.0 GB/,
    ],
    ['without a GPU', {}, FAST, /^$/],
  ])('%s is judged so', (_, changes, others, reason) => {
    expect(lag(knownPreflight(changes), others)).toMatch(reason);
  });

  it('takes the better of two peers', () => {
    const found = knownPreflight({ peers: [peer('w1', { bytesPerSecond: 1 }), peer('w2')] });
    expect(lag(found, REMOTE)).toBe('');
  });

  it('is compared with the same device only', () => {
    expect(isAlike(knownPreflight(), knownPreflight({ matmulGflops: 1 }))).toBe(true);
    expect(isAlike(knownPreflight(), knownPreflight(GPU))).toBe(false);
  });
});
