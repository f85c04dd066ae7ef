/** What a job must compute: a pure function of its spec, worked out without any cluster. */
import { consumedDigest } from '../../shared/consumption.js';
import { type PlanShape, planStep } from '../../shared/plan.js';
import { childrenOf, rootOf, type TreeNode } from '../../shared/tree.js';
import type { JobSpec } from '../../shared/wire/jobs.js';
import { hashText, mix } from './hashing.js';

/** The sum of two gradients: its order counts, as that of floating-point addition does. */
export function add(left: number, right: number): number {
  return mix(left, right);
}

export function applied(weights: number, gradient: number): number {
  return mix(weights, gradient);
}

export function leafGradient(weights: number, step: number, microbatch: number, consumed: string): number {
  return mix(mix(weights, step), mix(microbatch, hashText(consumed)));
}

/** The sum over a node of the tree, from its leaves. */
export function sumOver(node: TreeNode, leaf: (microbatch: number) => number): number {
  const children = childrenOf(node);
  if (children === undefined) return leaf(node.lo);
  return add(sumOver(children[0], leaf), sumOver(children[1], leaf));
}

export class Reference {
  readonly shape: PlanShape;
  readonly steps: number;
  readonly initialWeights: number;
  readonly #weights: number[] = [];
  readonly #roots: number[] = [];
  readonly #consumed = new Map<number, readonly string[]>();

  constructor(spec: JobSpec, datasetLength: number) {
    const { seed, batch, microbatches, tail, shuffle } = spec;
    this.shape = { seed, batch, microbatches, tail, shuffle, datasetLength };
    this.steps = spec.steps ?? 0;
    this.initialWeights = mix(seed, hashText(spec.name));
    this.#weights.push(this.initialWeights);
  }

  /** Digests of the samples of each microbatch. */
  consumed(step: number): readonly string[] {
    let digests = this.#consumed.get(step);
    if (digests === undefined) {
      digests = planStep(this.shape, step).samples.map(consumedDigest);
      this.#consumed.set(step, digests);
    }
    return digests;
  }

  root(step: number): number {
    this.#extendTo(step + 1);
    return this.#roots[step] ?? Number.NaN;
  }

  /** After `committed` steps. */
  weights(committed: number): number {
    this.#extendTo(committed);
    return this.#weights[committed] ?? Number.NaN;
  }

  #extendTo(committed: number): void {
    for (let step = this.#roots.length; step < committed; step++) {
      const weights = this.#weights[step] ?? Number.NaN;
      const consumed = this.consumed(step);
      const root = sumOver(rootOf(this.shape.microbatches), (m) => leafGradient(weights, step, m, consumed[m] ?? ''));
      this.#roots.push(root);
      this.#weights.push(applied(weights, root));
    }
  }
}
