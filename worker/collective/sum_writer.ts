/**
 * Adds chunks whose terms are all there to where their sum belongs: the own segment of the reduced vector to its slot, sums that are carried
 * for owners on other hosts to memory of their own.
 */
import { nodeKey } from '../../shared/tree.js';
import { Fold } from './reduction.js';
import type { Routes, SegmentSum } from './routes.js';
import type { RunContext } from './run.js';
import type { ReadyChunk } from './segment_fold.js';
import { segmentSpan } from './segments.js';
import type { PublishedPartial } from './shelf.js';

export interface SumWriterOptions {
  readonly context: RunContext;
  /** Of the reduced vector. */
  readonly slot: number;
  readonly routes: Routes;
}

export class SumWriter {
  readonly #folds: ReadonlyMap<SegmentSum, Fold>;
  /** The own partials that have been published, by their nodes. */
  readonly #partials = new Map<string, PublishedPartial>();
  /** Memory of the carried sums that are not whole yet. */
  readonly #carried = new Map<string, Buffer>();

  constructor(private readonly options: SumWriterOptions) {
    const { own, carried } = options.routes;
    this.#folds = new Map([own, ...carried].map((sum) => [sum, foldOf(sum)]));
  }

  published(node: SegmentSum['node'], partial: PublishedPartial): void {
    this.#partials.set(nodeKey(node), partial);
  }

  /** The bytes of a chunk's terms are in `inputs`, except those of own partials. */
  add(chunk: ReadyChunk<unknown>, inputs: readonly (Buffer | undefined)[]): void {
    const { sum, at, length } = chunk;
    const operands = inputs.map((bytes, term) => bytes ?? this.#ownPartial(sum, term, at, length));
    const narrow = Math.min(length, Math.max(0, this.options.context.bf16Bytes - at));
    this.#folds.get(sum)?.run(operands, this.#targetOf(chunk), narrow);
  }

  #ownPartial({ terms }: SegmentSum, term: number, at: number, length: number): Buffer {
    const named = terms[term];
    const partial = named === undefined ? undefined : this.#partials.get(nodeKey(named.node));
    if (partial === undefined) throw new Error(`term ${term} is added before it is published`);
    return this.options.context.memory.bytes(partial.slot, at, length);
  }

  #targetOf({ sum, bucket, at, offset, length }: ReadyChunk<unknown>): Buffer {
    const { context, slot, routes } = this.options;
    if (sum === routes.own) return context.memory.bytes(slot, at, length);
    const name = nameOf(sum, bucket);
    const memory = this.#carried.get(name) ?? this.#memoryFor(sum, bucket);
    this.#carried.set(name, memory);
    return memory.subarray(offset, offset + length);
  }

  #memoryFor({ segment }: SegmentSum, bucket: number): Buffer {
    const { vectorBytes, generation, carried } = this.options.context;
    return carried.take(segmentSpan(vectorBytes, bucket, segment, generation.roster.length).length);
  }

  /** The memory of a carried sum whose segment of the bucket is whole; it now belongs to the caller. */
  take({ sum, bucket }: ReadyChunk<unknown>): Buffer {
    const name = nameOf(sum, bucket);
    const memory = this.#carried.get(name);
    if (memory === undefined) throw new Error(`nothing has been added to segment ${sum.segment} of bucket ${bucket}`);
    this.#carried.delete(name);
    return memory;
  }
}

function foldOf({ terms, node }: SegmentSum): Fold {
  return new Fold(
    terms.map((term) => term.node),
    node,
  );
}

function nameOf({ node, segment }: SegmentSum, bucket: number): string {
  return `${nodeKey(node)} ${segment} ${bucket}`;
}
