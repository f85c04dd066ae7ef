/** An engine's memory: the slots of the exchange, the state and the snapshot, with what was really written there last. */
import type { TreeNode } from '../../shared/tree.js';
import { slotBytes } from '../../worker/collective/data_plane.js';
import { BUCKET_BYTES, bucketCount } from '../../worker/collective/segments.js';
import { Image, SnapshotMemory } from './checkpoint/image.js';

/** Some jobs' vectors are so short that a few workers reduce them in one shot. */
export function vectorBytesOf({ seed }: { readonly seed: number }): number {
  return (seed % 2 === 0 ? 3.5 : 0.5) * BUCKET_BYTES;
}

export interface PartialContent {
  readonly kind: 'partial';
  readonly job: string;
  readonly step: number;
  readonly node: TreeNode;
  /** The sum of the node's gradients. */
  readonly value: number;
  /** The weights that it was computed from. */
  readonly weights: number;
  /** So many of its buckets are final; all of them once it is whole. */
  readonly buckets: number;
}

/** A reduced vector, segment by segment; a segment that has not come is undefined. */
export interface VectorContent {
  readonly kind: 'vector';
  readonly step: number;
  readonly generation: number;
  readonly segments: (number | undefined)[];
  /** Why a segment is not what it should be; set when one was made of wrong partials. */
  taint: string | undefined;
}

export type SlotContent = PartialContent | VectorContent | undefined;

export class Memory {
  /** Of one vector. */
  readonly buckets: number;
  readonly slots = new Map<number, SlotContent>();
  readonly state = new Image();
  readonly snapshot = new SnapshotMemory();
  /** Bytes that were reserved. */
  reserved = 0;

  constructor(readonly vectorBytes: number) {
    this.buckets = bucketCount(vectorBytes);
  }

  /** Number of the slot at byte `at`. */
  slotAt(at: number): number {
    return at / slotBytes(this.vectorBytes);
  }
}

/** The gradient in a whole vector, or undefined if it is not whole or made of different sums. */
export function gradientOf(content: SlotContent): number | undefined {
  if (content?.kind !== 'vector') return undefined;
  const [first] = content.segments;
  return content.segments.every((segment) => segment === first) ? first : undefined;
}
