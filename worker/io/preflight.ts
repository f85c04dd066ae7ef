/**
 * The pre-flight: how fit this machine is, measured one thing after the other so that nothing disturbs what comes next. Each part has a
 * deadline, and what goes wrong in it is part of what is found. `lockstep doctor` looks at the same parts.
 */

import { hostOf } from '../../shared/address.js';
import type { Credentials } from '../../shared/identity/credential_files.js';
import type { Preflight } from '../../shared/wire/jobs.js';
import type { MeasuredPeer } from '../../shared/wire/session.js';
import { PeerSecurity } from '../collective/peer_security.js';
import { probePeer } from '../collective/probe_peer.js';
import { probeDisk } from './disk_probe.js';
import { type EngineFound, engineProblemOf, probeEngine } from './engine_probe.js';
import { findMemory } from './memory.js';

const MOST_PEERS = 2;

export interface PreflightOptions {
  readonly python: string;
  readonly gpu: number;
  /** See engineEnvironment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where the code of jobs is unpacked. */
  readonly folder: string;
  readonly worker: string;
  readonly incarnation: string;
  /** Of this worker. */
  readonly peerAddress: string;
  /** As they are now; undefined without TLS. */
  readonly credentials?: () => Credentials | undefined;
}

export interface MeasureRequest {
  /** Asked for when all else is measured: workers that start together know nobody at first. */
  readonly peers: () => readonly MeasuredPeer[];
  readonly signal: AbortSignal;
  /** Told of the child process that stands for an engine. */
  readonly onStarted: (pid: number) => void;
}

/** Undefined when it was stopped. */
export async function measure(options: PreflightOptions, request: MeasureRequest): Promise<Preflight | undefined> {
  const { signal } = request;
  const timeMs = Date.now();
  const startMs = performance.now();
  // Before the engine takes any of it.
  const freeMemoryBytes = findMemory().freeBytes;
  const engine = await probeEngine({ ...options, ...request });
  if (signal.aborted) return undefined;
  const disk = await probeDisk(options.folder);
  const peers = [];
  for (const peer of request.peers().slice(0, MOST_PEERS)) {
    if (signal.aborted) return undefined;
    peers.push(await bandwidthTo(peer, options, signal));
  }
  if (signal.aborted) return undefined;
  return {
    timeMs,
    tookMs: performance.now() - startMs,
    ...engineFields(engine),
    freeMemoryBytes,
    diskFolder: disk.folder,
    diskProblem: disk.problem,
    freeDiskBytes: disk.freeBytes,
    diskBytesPerSecond: disk.bytesPerSecond,
    peers,
  };
}

function engineFields(engine: EngineFound) {
  return {
    engineProblem: engineProblemOf(engine),
    engineStartMs: engine.startMs,
    torch: engine.torch,
    device: engine.device,
    deviceName: engine.deviceName,
    matmulGflops: engine.matmulGflops,
    freeDeviceBytes: engine.deviceFreeBytes,
  };
}

/** How fast test bytes come from a peer. */
export async function bandwidthTo(
  { worker, peerAddress }: MeasuredPeer,
  self: Pick<PreflightOptions, 'worker' | 'incarnation' | 'peerAddress' | 'credentials'>,
  signal: AbortSignal,
): Promise<Preflight['peers'][number]> {
  const sameHost = hostOf(peerAddress) === hostOf(self.peerAddress);
  try {
    const { worker: asks, incarnation } = self;
    const credentials = self.credentials?.();
    const security = credentials && new PeerSecurity(credentials).clientFor(worker);
    const bytesPerSecond = await probePeer({ address: peerAddress, worker: asks, incarnation, signal, security });
    return { worker, sameHost, bytesPerSecond, problem: '' };
  } catch (error) {
    return { worker, sameHost, bytesPerSecond: 0, problem: error instanceof Error ? error.message : String(error) };
  }
}
