/** What this machine has, as the coordinator hears it. */
import { readdirSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import type { Machine } from '../../shared/wire/jobs.js';
import type { WorkerConfig } from '../config.js';

const GPU_DEVICE = /^nvidia\d+$/;

export function countGpus(): number {
  try {
    return readdirSync('/dev').filter((name) => GPU_DEVICE.test(name)).length;
  } catch {
    return 0;
  }
}

/** An engine drives one GPU, however many the machine has. */
export function machineOf({ labels, cpus, gpus }: WorkerConfig): Machine {
  return {
    labels,
    cpus: cpus ?? availableParallelism(),
    gpus: gpus ?? Math.min(1, countGpus()),
    memoryBytes: totalmem(),
  };
}
