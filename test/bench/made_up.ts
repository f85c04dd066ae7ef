/** A machine that reports of the benchmarks are made up of. */
import type { Machine } from '../../bench/machine.js';

export const machine: Machine = {
  processor: 'R&D <1>',
  cores: 2,
  memoryGib: 4,
  kernel: '6.1',
  node: 'v20',
};
