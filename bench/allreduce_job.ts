/** How a job of all-reduces is told to the data plane, and what its vectors hold. */
import { type DataPlaneCommand, FIRST_PARTIAL_SLOT, slotBytes } from '../worker/collective/data_plane.js';
import type { MemoryFile, MemoryRegion } from '../worker/io/memory_file.js';
import type { Format } from './formats.js';

export interface Vector {
  readonly elements: number;
  readonly format: Format;
}

/** bf16 ends at a multiple of this. */
const BF16_ALIGNMENT_BYTES = 64;

function bytesOf({ elements, format }: Vector): number {
  return format === 'fp32' ? elements * 4 : Math.ceil((elements * 2) / BF16_ALIGNMENT_BYTES) * BF16_ALIGNMENT_BYTES;
}

export interface ExchangeJob extends Vector {
  readonly job: string;
  readonly file: MemoryFile;
  /** One a worker. */
  readonly microbatches: number;
}

export function openJob(exchange: ExchangeJob): DataPlaneCommand {
  const { job, file, format, microbatches } = exchange;
  const vectorBytes = bytesOf(exchange);
  const bf16Bytes = format === 'bf16' ? vectorBytes : 0;
  return { kind: 'open_job', job, exchangeFd: file.fd, vectorBytes, bf16Bytes, microbatches };
}

function slotLength(vector: Vector): number {
  return slotBytes(bytesOf(vector));
}

/** Room for two reduced vectors and the own partial. */
export function fileBytes(vector: Vector): number {
  return slotLength(vector) * (FIRST_PARTIAL_SLOT + 1);
}

export function slotOf({ file }: { readonly file: MemoryFile }, vector: Vector, slot: number): MemoryRegion {
  return file.map(slotLength(vector) * slot, slotLength(vector));
}

/** Every worker has one microbatch. */
export function reduceCommand(job: string, step: number, workers: number): DataPlaneCommand {
  const placements = Array.from({ length: workers }, (_, lo) => ({ node: { lo, length: 1 }, rank: lo }));
  return { kind: 'reduce', job, step, placements };
}

/** The partial of the worker's microbatch is whole. */
export function publishCommand(job: string, step: number, rank: number): DataPlaneCommand {
  const facts = { loss: 0, weight: 1, consumed: ['0'.repeat(16)] };
  return { kind: 'publish_partial', job, step, node: { lo: rank, length: 1 }, slot: FIRST_PARTIAL_SLOT, facts };
}

/** A prime, so that a part of a vector that landed in a wrong place shows. */
const PERIOD = 13;

/** With more, sums would be larger than the 256 up to which bf16 has every whole number. */
export const MOST_WORKERS = 16;

/** Elements of a worker's partial, over and over. */
export function partialPattern(rank: number): readonly number[] {
  return Array.from({ length: PERIOD }, (_, index) => (index + 5 * rank) % PERIOD);
}

/** Elements of the reduced vector, over and over. */
export function sumPattern(workers: number): readonly number[] {
  const partials = Array.from({ length: workers }, (_, rank) => partialPattern(rank));
  return Array.from({ length: PERIOD }, (_, index) => partials.reduce((sum, one) => sum + (one[index] ?? 0), 0));
}

/** A region's elements as numbers that can be compared: fp32 values, or the bits of bf16. */
function elementsIn(region: MemoryRegion, vector: Vector): Float32Array | Uint16Array {
  if (vector.format === 'fp32') return region.floats(0, vector.elements);
  const { buffer, byteOffset } = region.bytes(0, bytesOf(vector));
  return new Uint16Array(buffer, byteOffset, vector.elements);
}

/** bf16 is the upper half of fp32; of small whole numbers the lower half is zero. */
function encoded(pattern: readonly number[], format: Format): readonly number[] {
  return format === 'fp32'
    ? pattern
    : [...new Uint32Array(new Float32Array(pattern).buffer)].map((bits) => bits >>> 16);
}

export function fill(region: MemoryRegion, vector: Vector, pattern: readonly number[]): void {
  const values = encoded(pattern, vector.format);
  const elements = elementsIn(region, vector);
  for (let index = 0; index < elements.length; index++) elements[index] = values[index % PERIOD] ?? 0;
}

/** How many elements are not as the pattern says. */
export function countWrong(region: MemoryRegion, vector: Vector, pattern: readonly number[]): number {
  const values = encoded(pattern, vector.format);
  const elements = elementsIn(region, vector);
  let wrong = 0;
  for (let index = 0; index < elements.length; index++) if (elements[index] !== values[index % PERIOD]) wrong++;
  return wrong;
}
