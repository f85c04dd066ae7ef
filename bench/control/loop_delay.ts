/** Loaded into a coordinator before its own code: says over the channel to the benchmark how late the event loop was, when it is asked. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { LoopDelay } from './messages.js';

const RESOLUTION_MS = 10;

const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delay.enable();

/** The histogram holds the distances between two looks, the period of the looks included. */
function lateMs(nanoseconds: number): number {
  return Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
}

process.on('message', () => {
  const late: LoopDelay = {
    meanMs: lateMs(delay.mean),
    p99Ms: lateMs(delay.percentile(99)),
    maxMs: lateMs(delay.max),
  };
  delay.reset();
  process.send?.(late);
});
process.channel?.unref();
