/** The sums of a step, in the order that the tree fixes. Pure. */
import { type Addition, additionsFor, nodeKey, rootOf, type TreeNode } from '../../shared/tree.js';
import type { PartialFacts } from './data_plane.js';
import { SUMS_WASM } from './sums_wasm.js';

/** Bytes added at a time: so small that operands and sums stay in the first-level cache. */
const BLOCK_BYTES = 16 * 1024;
/** Blocks in the memory of sums.wat: two operands, and from here on the sums. */
const FIRST_SUM = 2;
const WASM_PAGE_BYTES = 64 * 1024;

/** An operand of an addition: one of the given partials, or the result of an earlier addition. */
interface Operand {
  readonly given: boolean;
  readonly index: number;
}

interface Instruction {
  readonly left: Operand;
  readonly right: Operand;
}

type Add = (left: number, right: number, into: number, bytes: number) => void;

/** The functions of sums.wat, and the memory that they work in. */
interface Sums {
  readonly memory: WebAssembly.Memory;
  readonly addFp32: Add;
  readonly addBf16: Add;
}

// What sums.wat exports is known.
const sums = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(SUMS_WASM, 'base64')))
  .exports as unknown as Sums;

/** The memory, when it has at least so many blocks. */
function memoryOf(blocks: number): Buffer {
  const pages = Math.ceil((blocks * BLOCK_BYTES) / WASM_PAGE_BYTES);
  const have = sums.memory.buffer.byteLength / WASM_PAGE_BYTES;
  if (have < pages) sums.memory.grow(pages - have);
  return Buffer.from(sums.memory.buffer);
}

/** Adds partials, or sums of them, to a node of the tree in one pass, whatever their number. */
export class Fold {
  readonly #instructions: readonly Instruction[];

  /** Throws when `given` does not cover the node exactly. */
  constructor(
    readonly given: readonly TreeNode[],
    node: TreeNode,
  ) {
    const additions = additionsFor(given, node);
    if (given.length !== additions.length + 1) throw new Error('the given partials overlap');
    this.#instructions = instructionsFor(given, additions);
  }

  /**
   * `into` becomes the sum of `inputs`, which are in the order of `given` and as long as `into`. The first `bf16Bytes` of each are bfloat16,
   * the rest is fp32.
   */
  run(inputs: readonly Buffer[], into: Buffer, bf16Bytes: number): void {
    if (this.#instructions.length === 0) {
      into.set(inputs[0] ?? into);
      return;
    }
    const memory = memoryOf(FIRST_SUM + this.#instructions.length);
    for (let at = 0; at < into.length; ) {
      const narrow = at < bf16Bytes;
      const end = Math.min(at + BLOCK_BYTES, narrow ? bf16Bytes : into.length);
      this.#runBlock(inputs, memory, at, end, narrow ? sums.addBf16 : sums.addFp32);
      const sum = this.#sumAt(this.#instructions.length - 1);
      into.set(memory.subarray(sum, sum + end - at), at);
      at = end;
    }
  }

  #sumAt(instruction: number): number {
    return (FIRST_SUM + instruction) * BLOCK_BYTES;
  }

  #runBlock(inputs: readonly Buffer[], memory: Buffer, at: number, end: number, add: Add): void {
    const place = ({ given, index }: Operand, block: number): number => {
      if (!given) return this.#sumAt(index);
      memory.set(inputs[index]?.subarray(at, end) ?? memory.subarray(0, 0), block * BLOCK_BYTES);
      return block * BLOCK_BYTES;
    };
    for (const [index, { left, right }] of this.#instructions.entries()) {
      add(place(left, 0), place(right, 1), this.#sumAt(index), end - at);
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
    rootOf(microbatches),
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
