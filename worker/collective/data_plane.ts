/**
 * What the daemon's main thread can ask of the data plane, and what it hears back. The data plane runs in its own thread
 * (thread.ts); nothing here waits for it.
 *
 * Memory: a job's exchange memory is one memfd of equal slots, each as long as the exchange vector rounded up to whole pages. The reduced
 * vector of step s is in slot s % 2; partials are in slots 2 and up, as the worker's core says.
 */
import type { TreeNode } from '../../shared/tree.js';
import type { ByteRange } from '../checkpoint/checkpoints.js';

/** Slots 0 and 1 hold reduced vectors. */
export const FIRST_PARTIAL_SLOT = 2;

const PAGE_BYTES = 4096;

/** Bytes of one slot for an exchange vector of `vectorBytes`. */
export function slotBytes(vectorBytes: number): number {
  return Math.ceil(vectorBytes / PAGE_BYTES) * PAGE_BYTES;
}

/** What goes with a partial and, summed over the tree, with a reduced vector. */
export interface PartialFacts {
  /** Sum of the losses. */
  readonly loss: number;
  /** Samples or tokens that the loss was summed over. */
  readonly weight: number;
  /** For each microbatch of the node, 16 hexadecimal digits: what its engine consumed. */
  readonly consumed: readonly string[];
}

/** A worker that chunks are pulled from. */
export interface Peer {
  readonly worker: string;
  readonly incarnation: string;
  /** host:port */
  readonly peerAddress: string;
}

export type DataPlaneCommand =
  /**
   * Begin to serve and to reduce a job. The file is at least two slots long. The first `bf16Bytes` of the exchange vector, a multiple
   * of 64, are bfloat16; the rest is fp32.
   */
  | {
      readonly kind: 'open_job';
      readonly job: string;
      readonly exchangeFd: number;
      readonly vectorBytes: number;
      readonly bf16Bytes: number;
      readonly microbatches: number;
    }
  /** Forget the job, its maps and its streams. The descriptors stay open; they are the daemon's, which closes them when this is done. */
  | { readonly kind: 'close_job'; readonly job: string }
  /** From here on requests of this generation are served and made. `rank` is the own place in the roster. */
  | {
      readonly kind: 'start_generation';
      readonly job: string;
      readonly term: number;
      readonly generation: number;
      readonly rank: number;
      readonly roster: readonly Peer[];
    }
  /** End the generation: drop the reduce in flight, answer waiting requests with gone. Partials and committed reduced vectors stay. */
  | { readonly kind: 'stop_generation'; readonly job: string }
  /** The first so many buckets of a partial are final in its slot and may be read by peers. */
  | {
      readonly kind: 'publish_buckets';
      readonly job: string;
      readonly step: number;
      readonly node: TreeNode;
      readonly slot: number;
      readonly buckets: number;
    }
  /** A partial is whole in its slot and may be read by peers. */
  | {
      readonly kind: 'publish_partial';
      readonly job: string;
      readonly step: number;
      readonly node: TreeNode;
      readonly slot: number;
      readonly facts: PartialFacts;
    }
  /** Partials of steps below `step`, and sums of them, will not be asked for again. */
  | { readonly kind: 'drop_partials'; readonly job: string; readonly step: number }
  /** Reduce and gather the step: `placements` covers its microbatches, each once, with the rank that has or will have each node. Answer: reduced. */
  | {
      readonly kind: 'reduce';
      readonly job: string;
      readonly step: number;
      readonly placements: readonly { readonly node: TreeNode; readonly rank: number }[];
    }
  /** Pull the whole reduced vector of a step that others have committed, from the first of `ranks` that gives it. Answer: reduced. */
  | { readonly kind: 'fetch_reduced'; readonly job: string; readonly step: number; readonly ranks: readonly number[] }
  /**
   * The state after `committed` steps is in `fd`, or those runs of it that `ranges` names: exported by the engine, or read from a checkpoint.
   * Serve it. `bytes` and `sha256` are the whole state's. It replaces an earlier one, outlives the generation, and ends with close_job.
   */
  | {
      readonly kind: 'publish_state';
      readonly job: string;
      readonly committed: number;
      readonly fd: number;
      readonly bytes: number;
      readonly sha256: string;
      /** Sorted, without overlap. Absent: all of the state. */
      readonly ranges?: readonly ByteRange[];
    }
  /**
   * Pull a state from several peers in parallel into `fd` (sized by the data plane) and verify the whole file. Each of `ranks` is asked for
   * what it has, and answers when it has published; pulling begins with the first answer. Answer: state_fetched.
   *
   * With `expected` it is that very state that is put together from peers which have different parts of it, as in a restore from a
   * checkpoint; a peer with another one is left out. A peer that has not got it yet, or not all that is missing, is asked again.
   * Answer: state_fetched or state_corrupt.
   */
  | {
      readonly kind: 'fetch_state';
      readonly job: string;
      readonly committed: number;
      readonly ranks: readonly number[];
      readonly fd: number;
      /** The whole state's. Absent: of whatever state a peer has. */
      readonly expected?: { readonly bytes: number; readonly sha256: string };
      /** Only together with `expected`: the runs to pull, each wholly in one peer's ranges. The others are in `fd`. Absent: all of it. */
      readonly missing?: readonly ByteRange[];
    };

export type DataPlaneEvent =
  /** The Peer service listens. */
  | { readonly kind: 'listening'; readonly port: number }
  /** Slot step % 2 holds the whole reduced vector. */
  | {
      readonly kind: 'reduced';
      readonly job: string;
      readonly generation: number;
      readonly step: number;
      readonly facts: PartialFacts;
      /** Bytes of gradients read from peers for this step, through sockets or from their memory. */
      readonly pulledBytes: number;
      /** Milliseconds from when the own segment of every bucket was reduced to when all was there. */
      readonly gatherMs: number;
    }
  | {
      readonly kind: 'state_fetched';
      readonly job: string;
      readonly generation: number;
      readonly committed: number;
      readonly bytes: number;
    }
  /**
   * Everything that was missing of the expected state has been pulled, but the whole file has another sha256. Which part is bad, and
   * whose, is not known. The fetch has ended.
   */
  | {
      readonly kind: 'state_corrupt';
      readonly job: string;
      readonly generation: number;
      readonly committed: number;
    }
  /** A peer's stream broke or stalled while something was wanted from it. */
  | {
      readonly kind: 'peer_failed';
      readonly job: string;
      readonly generation: number;
      readonly worker: string;
      readonly reason: string;
    };

export interface DataPlane {
  /** Port of the Peer service. */
  readonly port: number;
  tell(command: DataPlaneCommand): void;
  /** Resolves when everything that was told before is done, or the thread has ended: what it was told to forget it uses no more. */
  obeyed(): Promise<void>;
  /** Ends the thread, its server and its streams; waits a bounded time. */
  close(): Promise<void>;
}
