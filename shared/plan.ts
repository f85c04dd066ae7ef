/**
 * Which samples belong to which microbatch of which step: a pure function of the job's seed and shape.
 *
 * The order of an epoch is a keyed permutation of 0..n-1, computed index by index in constant memory: a Feistel network over the
 * smallest even number of bits that holds n, walked along its cycle until the value is below n (Black and Rogaway, "Ciphers with
 * Arbitrary Finite Domains", 2002).
 */

export interface PlanShape {
  readonly seed: number;
  /** Samples in the data set. */
  readonly datasetLength: number;
  /** Samples of one step. */
  readonly batch: number;
  readonly microbatches: number;
  readonly tail: 'drop' | 'keep';
  readonly shuffle: boolean;
}

export interface StepPlan {
  readonly epoch: number;
  /** Sample ids of each microbatch; a list is empty only in the last step of an epoch whose tail is kept. */
  readonly samples: readonly (readonly number[])[];
  /** Samples of the whole step. */
  readonly count: number;
}

const ROUNDS = 6;

function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

function roundKeys(seed: number, epoch: number): readonly number[] {
  const words = [seed % 2 ** 32, Math.floor(seed / 2 ** 32), epoch % 2 ** 32, Math.floor(epoch / 2 ** 32)];
  let state = 0x9e3779b9;
  return Array.from({ length: ROUNDS }, (_, round) => {
    for (const word of words) state = mix(Math.imul(state, 31) + word + round);
    return state;
  });
}

/** The permutation of 0..length-1 that belongs to (seed, epoch). `length` is at most 2^53. */
export function permutationOf(seed: number, epoch: number, length: number): (index: number) => number {
  const halfBits = Math.max(1, Math.ceil(Math.ceil(Math.log2(Math.max(2, length))) / 2));
  const half = 2 ** halfBits;
  const keys = roundKeys(seed, epoch);
  const encrypt = (value: number): number => {
    let left = Math.floor(value / half);
    let right = value % half;
    for (const key of keys) {
      const next = (left ^ mix(right ^ key)) & (half - 1);
      left = right;
      right = next;
    }
    return left * half + right;
  };
  return (index) => {
    let value = encrypt(index);
    while (value >= length) value = encrypt(value);
    return value;
  };
}

/** Steps of one epoch. */
export function stepsPerEpoch(shape: PlanShape): number {
  const whole = shape.datasetLength / shape.batch;
  return shape.tail === 'drop' ? Math.floor(whole) : Math.ceil(whole);
}

/** Epoch of a step. */
export function epochOf(shape: PlanShape, step: number): number {
  return Math.floor(step / stepsPerEpoch(shape));
}

/** Where a step lies in its epoch: from which position in the order, and how many samples. The shape must have at least one step an epoch. */
function spanOf(
  shape: PlanShape,
  step: number,
): { readonly epoch: number; readonly first: number; readonly count: number } {
  const perEpoch = stepsPerEpoch(shape);
  const first = (step % perEpoch) * shape.batch;
  return { epoch: Math.floor(step / perEpoch), first, count: Math.min(shape.batch, shape.datasetLength - first) };
}

/** Where microbatch m of a step of `count` samples begins. */
function beginOf({ microbatches }: PlanShape, count: number, m: number): number {
  // Multiplied before the division, so that the parts of a ragged step differ by one sample at most.
  return Math.floor((m * count) / microbatches);
}

/** Samples that step number `step` (from 0) consists of. */
export function samplesOfStep(shape: PlanShape, step: number): number {
  return spanOf(shape, step).count;
}

/** Microbatches of a step that have samples. */
export function filledMicrobatches(shape: PlanShape, step: number): number {
  return Math.min(samplesOfStep(shape, step), shape.microbatches);
}

/** Sample ids of microbatches lo .. lo + length - 1. */
export function samplesOf(shape: PlanShape, step: number, lo: number, length: number): readonly (readonly number[])[] {
  const { epoch, first, count } = spanOf(shape, step);
  const order = shape.shuffle ? permutationOf(shape.seed, epoch, shape.datasetLength) : (index: number) => index;
  const microbatches: (readonly number[])[] = [];
  for (let m = lo; m < lo + length; m++) {
    const ids: number[] = [];
    for (let at = beginOf(shape, count, m); at < beginOf(shape, count, m + 1); at++) ids.push(order(first + at));
    microbatches.push(ids);
  }
  return microbatches;
}

/** The whole plan of step number `step` (from 0). */
export function planStep(shape: PlanShape, step: number): StepPlan {
  const { epoch, count } = spanOf(shape, step);
  return { epoch, samples: samplesOf(shape, step, 0, shape.microbatches), count };
}
