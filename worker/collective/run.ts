/** What the acts that pull something for a job (a reduce, a fetch) have in common. */
import type { PartialFacts, Peer } from './data_plane.js';
import type { ExchangeMemory } from './exchange_memory.js';
import type { MemoryPlace } from './facts.js';
import type { MemoryPool } from './memory_pool.js';
import type { PeerMemory } from './peer_memory.js';
import type { Pull, PullOwner } from './peer_stream.js';
import type { Generation } from './shelf.js';

export interface RunContext {
  readonly job: string;
  readonly vectorBytes: number;
  /** The first so many bytes of the vector are bfloat16. */
  readonly bf16Bytes: number;
  readonly microbatches: number;
  readonly memory: ExchangeMemory;
  readonly generation: Generation;
  want(peer: Peer, pulls: readonly Pull[]): void;
  /** Forgets every pull of the owner, or only those from one peer. */
  cancel(owner: PullOwner, peer?: Peer): void;
  /** The memory of a peer on this host, if it can be read; the same for each of its places while it is open. */
  memoryOf(peer: Peer, pid: number, place: MemoryPlace): PeerMemory | undefined;
  /** Memory for received chunks, used again and again. */
  readonly chunks: MemoryPool;
  /** Memory for segments that are added up for workers on other hosts, used again and again. */
  readonly carried: MemoryPool;
  /** Reports the peer, once a generation. */
  peerFailed(worker: string, reason: string): void;
  log(level: 'info' | 'warn', line: string): void;
}

/** A whole reduced vector is in its slot. */
export interface ReducedResult {
  readonly step: number;
  readonly facts: PartialFacts;
  readonly pulledBytes: number;
  readonly gatherMs: number;
}

export interface Run {
  /** Ends the run without a result; it makes no more calls. */
  stop(): void;
}
