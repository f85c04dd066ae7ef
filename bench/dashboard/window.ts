/** A stretch of the run in which nothing changes, and what was seen in it. */
import { setTimeout as delay } from 'node:timers/promises';
import { medianOf } from '../../shared/median.js';
import { anonymousMb, cpuMsOf, residentMb } from '../control/process_usage.js';
import type { Ground } from './ground.js';
import { machineCpuMs, ownCpuMs } from './own_processes.js';
import { scrape } from './scrape.js';

const SAMPLE_MS = 1_000;
/** In which the last steps of the window are heard of. */
const HEAR_MS = 300;

export const MODES = ['alone', 'source', 'viewers'] as const;
/** Training alone, with the source of events, and with the source and the pages. */
export type Mode = (typeof MODES)[number];

/** Of the coordinator. */
export interface MemorySample {
  /** Since the first window began. */
  readonly second: number;
  readonly mode: Mode;
  readonly residentMb: number;
  /** Of it, what is not mapped from files. */
  readonly anonymousMb: number;
}

export interface Window {
  readonly mode: Mode;
  /** Of the job that trains. */
  readonly stepsPerSecond: number;
  /** Of a median step of the training, milliseconds: engine time, and from its end to the whole reduced vector. */
  readonly computeMs: number;
  readonly reduceMs: number;
  /** Steps of all jobs that the coordinator was told of. */
  readonly eventsPerSecond: number;
  /** Shares of one core. */
  readonly coordinatorCpu: number;
  readonly etcdCpu: number;
  readonly sourceCpu: number;
  /** Of those that read. */
  readonly pagesCpu: number;
  /** What processes that are not the benchmark's took of the machine, in cores. */
  readonly foreignCores: number;
  /** The most of what /metrics said in the window. */
  readonly loopDelayMs: number;
  readonly memory: readonly MemorySample[];
  /** At its end, as the coordinator counts them. */
  readonly viewers: number;
  readonly lagging: number;
}

export interface WindowOptions {
  readonly mode: Mode;
  readonly seconds: number;
  /** By performance.now(). */
  readonly beganMs: number;
  readonly pages: { readonly cpuMs: number };
}

export async function measureWindow(ground: Ground, options: WindowOptions): Promise<Window> {
  const { ready, source } = ground;
  const coordinator = ready.pids.coordinators[0] ?? 0;
  const look = async () => ({
    atMs: performance.now(),
    wallMs: Date.now(),
    coordinatorMs: cpuMsOf(coordinator),
    etcdMs: cpuMsOf(ready.pids.etcd),
    sourceMs: source.cpuMs,
    pagesMs: options.pages.cpuMs,
    foreignMs: machineCpuMs() - ownCpuMs(),
    ...(await scrape(ready.dashboard)),
  });
  const before = await look();
  const memory: MemorySample[] = [];
  let loopDelayMs = 0;
  let after = before;
  while (after.atMs - before.atMs < options.seconds * 1000) {
    await delay(Math.max(0, before.atMs + (memory.length + 1) * SAMPLE_MS - performance.now()));
    after = await look();
    loopDelayMs = Math.max(loopDelayMs, after.loopDelayMs);
    memory.push({
      second: Math.round((after.atMs - options.beganMs) / 1000),
      mode: options.mode,
      residentMb: Math.round(residentMb(coordinator)),
      anonymousMb: Math.round(anonymousMb(coordinator)),
    });
  }
  await delay(HEAR_MS);
  const tookMs = after.atMs - before.atMs;
  return {
    mode: options.mode,
    ...training(ground, before.wallMs, after.wallMs),
    eventsPerSecond: ((after.steps - before.steps) / tookMs) * 1000,
    coordinatorCpu: (after.coordinatorMs - before.coordinatorMs) / tookMs,
    etcdCpu: (after.etcdMs - before.etcdMs) / tookMs,
    sourceCpu: (after.sourceMs - before.sourceMs) / tookMs,
    pagesCpu: (after.pagesMs - before.pagesMs) / tookMs,
    foreignCores: Math.max(0, after.foreignMs - before.foreignMs) / tookMs,
    loopDelayMs,
    memory,
    viewers: after.viewers,
    lagging: after.lagging,
  };
}

/** From commit to commit, so that no part of a step counts. */
function training({ training: job }: Ground, fromMs: number, toMs: number) {
  const steps = job.events('stepCommitted').filter(({ timeMs }) => timeMs >= fromMs && timeMs <= toMs);
  const [first, last] = [steps[0], steps.at(-1)];
  if (first === undefined || last === undefined || last === first) throw new Error('no steps were made in a window');
  return {
    stepsPerSecond: ((steps.length - 1) * 1000) / (last.timeMs - first.timeMs),
    computeMs: medianOf(steps.map(({ dataMs = 0, computeMs }) => dataMs + computeMs)),
    reduceMs: medianOf(steps.map(({ reduceMs, gatherMs = 0 }) => reduceMs + gatherMs)),
  };
}
