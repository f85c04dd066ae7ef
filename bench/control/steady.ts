/** What the coordinator takes while nothing changes: jobs make steps, workers send heartbeats. */
import { setTimeout as delay } from 'node:timers/promises';
import type { MeasuredCoordinator } from './coordinator.js';
import type { Fleets } from './fleets.js';
import { type LoopDelay, monotonicMs } from './messages.js';
import { cpuMsOf, residentMb } from './process_usage.js';

export interface Steady {
  /** Share of one core. */
  readonly coordinatorCpu: number;
  readonly etcdCpu: number;
  /** Of all processes with simulated workers together. */
  readonly workersCpu: number;
  readonly residentMb: number;
  /** Messages of the sessions in a second, from the workers and to them. */
  readonly fromWorkers: number;
  readonly toWorkers: number;
  readonly loopDelay: LoopDelay;
}

export async function steady(coordinator: MeasuredCoordinator, fleets: Fleets, seconds: number): Promise<Steady> {
  await coordinator.loopDelay();
  const sample = async () => ({
    atMs: monotonicMs(),
    coordinatorMs: cpuMsOf(coordinator.pid),
    etcdMs: cpuMsOf(coordinator.etcd.pid),
    fleets: await fleets.count(),
  });
  const before = await sample();
  await delay(seconds * 1000);
  const after = await sample();
  const tookMs = after.atMs - before.atMs;
  return {
    coordinatorCpu: (after.coordinatorMs - before.coordinatorMs) / tookMs,
    etcdCpu: (after.etcdMs - before.etcdMs) / tookMs,
    workersCpu: (after.fleets.cpuMs - before.fleets.cpuMs) / tookMs,
    residentMb: residentMb(coordinator.pid),
    fromWorkers: ((after.fleets.sent - before.fleets.sent) / tookMs) * 1000,
    toWorkers: ((after.fleets.received - before.fleets.received) / tookMs) * 1000,
    loopDelay: await coordinator.loopDelay(),
  };
}
