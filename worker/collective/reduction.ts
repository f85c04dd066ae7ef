/** The sums of a step, in the order that the tree fixes. Pure. */
import { type Addition, additionsFor, nodeKey, rootOf, type TreeNode } from '../../shared/tree.js';
import type { PartialFacts } from './data_plane.js';

/** Elements added at a time: 16 KiB an operand, so that intermediate sums stay in the first-level cache. */
const BLOCK_ELEMENTS = 4096;

type Numbers = Float32Array | Uint16Array;

/** An operand of an addition: one of the given partials, or the result of an earlier addition. */
interface Operand {
  readonly given: boolean;
  readonly index: number;
}

interface Instruction {
  readonly left: Operand;
  readonly right: Operand;
}

/** Adds the partials of `given` to their root in one pass, whatever their number. */
export class Fold {
  readonly #instructions: readonly Instruction[];
  readonly #fp32: readonly Float32Array[];
  readonly #bf16: readonly Uint16Array[];

  /** Throws when `given` does not cover the microbatches exactly. */
  constructor(
    readonly given: readonly TreeNode[],
    microbatches: number,
  ) {
    const additions = additionsFor(given, microbatches);
    if (given.length !== additions.length + 1) throw new Error('the given partials overlap');
    this.#instructions = instructionsFor(given, additions);
    this.#fp32 = additions.slice(1).map(() => new Float32Array(BLOCK_ELEMENTS));
    this.#bf16 = additions.slice(1).map(() => new Uint16Array(BLOCK_ELEMENTS));
  }

  /**
   * `into` becomes the sum of `inputs`, which are in the order of `given` and as long as `into`. The first `bf16Bytes` of each are bfloat16,
   * the rest is fp32; all lie at multiples of 4 bytes.
   */
  run(inputs: readonly Buffer[], into: Buffer, bf16Bytes: number): void {
    if (this.#instructions.length === 0) {
      into.set(inputs[0] ?? into);
      return;
    }
    const narrow = (bytes: Buffer): Uint16Array => new Uint16Array(bytes.buffer, bytes.byteOffset, bf16Bytes / 2);
    const wide = (bytes: Buffer): Float32Array =>
      new Float32Array(bytes.buffer, bytes.byteOffset + bf16Bytes, (bytes.length - bf16Bytes) / 4);
    if (bf16Bytes > 0) this.#run(inputs.map(narrow), narrow(into), this.#bf16, addBf16);
    if (bf16Bytes < into.length) this.#run(inputs.map(wide), wide(into), this.#fp32, addFp32);
  }

  #run<T extends Numbers>(inputs: readonly T[], into: T, intermediates: readonly T[], add: Add<T>): void {
    const last = this.#instructions.length - 1;
    for (let at = 0; at < into.length; at += BLOCK_ELEMENTS) {
      const count = Math.min(BLOCK_ELEMENTS, into.length - at);
      const block = ({ given, index }: Operand): Block<T> =>
        given ? { numbers: inputs[index] ?? into, at } : { numbers: intermediates[index] ?? into, at: 0 };
      for (const [index, { left, right }] of this.#instructions.entries()) {
        const to = index === last ? { numbers: into, at } : block({ given: false, index });
        add(block(left), block(right), to, count);
      }
    }
  }
}

/** Elements from `at` on. */
interface Block<T extends Numbers> {
  readonly numbers: T;
  readonly at: number;
}

type Add<T extends Numbers> = (left: Block<T>, right: Block<T>, into: Block<T>, count: number) => void;

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
function addFp32(
  left: Block<Float32Array>,
  right: Block<Float32Array>,
  into: Block<Float32Array>,
  count: number,
): void {
  const { numbers: a, at: aAt } = left;
  const { numbers: b, at: bAt } = right;
  const { numbers: sum, at: sumAt } = into;
  for (let i = 0; i < count; i++) sum[sumAt + i] = (a[aAt + i] ?? 0) + (b[bAt + i] ?? 0);
}

const LEFT = new Float32Array(BLOCK_ELEMENTS);
const LEFT_BITS = new Uint32Array(LEFT.buffer);
const RIGHT = new Float32Array(BLOCK_ELEMENTS);
const RIGHT_BITS = new Uint32Array(RIGHT.buffer);
const BF16_NAN = 0x7fc0;

/** The fp32 sum, rounded to the nearest bfloat16, to the even one if two are as near. */
function addBf16(left: Block<Uint16Array>, right: Block<Uint16Array>, into: Block<Uint16Array>, count: number): void {
  const { numbers: a, at: aAt } = left;
  const { numbers: b, at: bAt } = right;
  const { numbers: sum, at: sumAt } = into;
  // A bfloat16 is the upper half of an fp32 number.
  for (let i = 0; i < count; i++) LEFT_BITS[i] = (a[aAt + i] ?? 0) << 16;
  for (let i = 0; i < count; i++) RIGHT_BITS[i] = (b[bAt + i] ?? 0) << 16;
  for (let i = 0; i < count; i++) LEFT[i] = (LEFT[i] ?? 0) + (RIGHT[i] ?? 0);
  for (let i = 0; i < count; i++) {
    const bits = LEFT_BITS[i] ?? 0;
    sum[sumAt + i] = (bits & 0x7fffffff) > 0x7f800000 ? BF16_NAN : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
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
