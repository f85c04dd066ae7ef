/** The sums of a step, in the order that the tree fixes. Pure. */
import { type Addition, additionsFor, nodeKey, rootOf, type TreeNode } from '../../shared/tree.js';
import type { PartialFacts } from './data_plane.js';

/** Elements added at a time: 16 KiB an operand, so that intermediate sums stay in the first-level cache. */
const BLOCK_ELEMENTS = 4096;

/** An operand of an addition: one of the given partials, or the result of an earlier addition. */
interface Operand {
  readonly given: boolean;
  readonly index: number;
}

interface Instruction {
  readonly left: Operand;
  readonly right: Operand;
}

const ABSENT = new Float32Array(0);

/** Adds the partials of `given` to their root in one pass, whatever their number. */
export class Fold {
  readonly #instructions: readonly Instruction[];
  readonly #intermediates: readonly Float32Array[];

  /** Throws when `given` does not cover the microbatches exactly. */
  constructor(
    readonly given: readonly TreeNode[],
    microbatches: number,
  ) {
    const additions = additionsFor(given, microbatches);
    if (given.length !== additions.length + 1) throw new Error('the given partials overlap');
    this.#instructions = instructionsFor(given, additions);
    this.#intermediates = additions.slice(1).map(() => new Float32Array(BLOCK_ELEMENTS));
  }

  /** `into` becomes the sum of `inputs`, which are in the order of `given` and as long as `into`. */
  run(inputs: readonly Float32Array[], into: Float32Array): void {
    if (this.#instructions.length === 0) {
      into.set(inputs[0] ?? ABSENT);
      return;
    }
    for (let at = 0; at < into.length; at += BLOCK_ELEMENTS) {
      this.#runBlock(inputs, into, at, Math.min(BLOCK_ELEMENTS, into.length - at));
    }
  }

  #runBlock(inputs: readonly Float32Array[], into: Float32Array, at: number, count: number): void {
    const last = this.#instructions.length - 1;
    for (const [index, { left, right }] of this.#instructions.entries()) {
      add(
        (left.given ? inputs[left.index] : this.#intermediates[left.index]) ?? ABSENT,
        left.given ? at : 0,
        (right.given ? inputs[right.index] : this.#intermediates[right.index]) ?? ABSENT,
        right.given ? at : 0,
        (index === last ? into : this.#intermediates[index]) ?? ABSENT,
        index === last ? at : 0,
        count,
      );
    }
  }
}

function instructionsFor(given: readonly TreeNode[], additions: readonly Addition[]): readonly Instruction[] {
  const operands = new Map<string, Operand>(given.map((node, index) => [nodeKey(node), { given: true, index }]));
  const operandOf = (node: TreeNode): Operand => {
    const operand = operands.get(nodeKey(node));
    if (operand === undefined) throw new Error(`node ${nodeKey(node)} is needed before it is summed`);
    return operand;
  };
  return additions.map(({ left, right, into }, index) => {
    const instruction = { left: operandOf(left), right: operandOf(right) };
    operands.set(nodeKey(into), { given: false, index });
    return instruction;
  });
}

/** The sum of two fp32 numbers in double precision, rounded to fp32, is their exactly rounded fp32 sum. */
function add(
  left: Float32Array,
  leftAt: number,
  right: Float32Array,
  rightAt: number,
  into: Float32Array,
  intoAt: number,
  count: number,
): void {
  for (let i = 0; i < count; i++) into[intoAt + i] = (left[leftAt + i] ?? 0) + (right[rightAt + i] ?? 0);
}

/** The facts of the whole step from those of partials that cover it: sums in tree order in double precision, consumed in leaf order. */
export function sumFacts(
  given: readonly { readonly node: TreeNode; readonly facts: PartialFacts }[],
  microbatches: number,
): PartialFacts {
  const sums = new Map(given.map(({ node, facts }) => [nodeKey(node), facts]));
  const factsOf = (node: TreeNode): PartialFacts => {
    const facts = sums.get(nodeKey(node));
    if (facts === undefined) throw new Error(`the facts of node ${nodeKey(node)} are missing`);
    return facts;
  };
  const additions = additionsFor(
    given.map(({ node }) => node),
    microbatches,
  );
  for (const { left, right, into } of additions) {
    const [a, b] = [factsOf(left), factsOf(right)];
    sums.set(nodeKey(into), {
      loss: a.loss + b.loss,
      weight: a.weight + b.weight,
      consumed: [...a.consumed, ...b.consumed],
    });
  }
  return factsOf(rootOf(microbatches));
}
