import type { Worker } from '../../../coordinator/core/state.js';

/** A worker that has a session, and nothing but a job. */
export function knownWorker(name: string, job: string | undefined): Worker {
  return {
    worker: name,
    incarnation: `${name}#1`,
    session: `s-${name}`,
    host: 'h',
    pid: 1,
    peerAddress: `${name}:1`,
    machine: { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 },
    lastHeardMs: 0,
    enginePid: 2,
    committed: 0,
    job,
    facts: undefined,
    engineStart: 1,
    healing: false,
    leaving: false,
    withdrawn: undefined,
    unloading: false,
    microbatchMs: 0,
    loopDelayMs: 0,
    engineUsage: undefined,
    hostUsedBytes: undefined,
    holding: undefined,
    restoredPieces: 0,
    measures: false,
    measureDue: false,
    measuringUntilMs: undefined,
    ...{ peersTold: 0, displaced: [] },
  };
}
