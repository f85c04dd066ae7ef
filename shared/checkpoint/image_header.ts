/**
 * The header of a training state's image, which is a safetensors file (https://github.com/huggingface/safetensors): 8 bytes with the
 * header's length, a JSON object name -> {dtype, shape, data_offsets} with an optional __metadata__ of texts, and the tensors' bytes,
 * which the offsets cover without a gap or an overlap. Checked as strictly as engine/lockstep/safetensors.py does.
 */
import { z } from 'zod';

/** Length of the number that says how long the JSON is. */
export const LENGTH_BYTES = 8;
export const MAX_HEADER_BYTES = 32 * 2 ** 20;
const MAX_DIMENSIONS = 64;

const ELEMENT_BYTES: ReadonlyMap<string, number> = new Map([
  ...(['F64', 'I64', 'U64'] as const).map((name): [string, number] => [name, 8]),
  ...(['F32', 'I32', 'U32'] as const).map((name): [string, number] => [name, 4]),
  ...(['F16', 'BF16', 'I16', 'U16'] as const).map((name): [string, number] => [name, 2]),
  ...(['I8', 'U8', 'BOOL', 'F8_E4M3', 'F8_E5M2'] as const).map((name): [string, number] => [name, 1]),
]);

export interface TensorEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** First byte, counted from the end of the header. */
  readonly begin: number;
  readonly end: number;
}

export interface ImageHeader {
  /** The JSON as it stands in the image, with its padding. */
  readonly text: string;
  /** Where the tensors' bytes begin in the image. */
  readonly dataAt: number;
  /** Length of the whole image. */
  readonly bytes: number;
  /** In the order of their bytes. */
  readonly tensors: readonly TensorEntry[];
}

/** The message goes on after the file's name: "has a header that is not JSON". */
export class BadHeader extends Error {
  constructor(readonly problem: string) {
    super(problem);
    this.name = 'BadHeader';
  }
}

const entrySchema = z.strictObject({
  dtype: z.string(),
  shape: z.array(z.number().int().nonnegative()).max(MAX_DIMENSIONS),
  data_offsets: z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()]),
});
const metadataSchema = z.record(z.string(), z.string());
const objectSchema = z.custom<object>((value) => typeof value === 'object' && value !== null && !Array.isArray(value));

/** Length of the JSON, from the 8 bytes that come before it. Throws BadHeader when it is more than is allowed. */
export function headerLength(prefix: Buffer): number {
  const length = prefix.readBigUInt64LE(0);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new BadHeader(`has a header of ${length} bytes; at most ${MAX_HEADER_BYTES} are allowed`);
  }
  return Number(length);
}

/** `json`: what follows the 8 bytes of length. Throws BadHeader. */
export function parseImageHeader(json: Buffer): ImageHeader {
  const text = decoded(json);
  const tensors = Object.entries(parsed(text)).flatMap(([name, value]) => {
    if (name !== '__metadata__') return [checkedEntry(name, value)];
    if (!metadataSchema.safeParse(value).success)
      throw new BadHeader('has a __metadata__ that is not an object of texts');
    return [];
  });
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  const dataAt = LENGTH_BYTES + json.length;
  return { text, dataAt, bytes: dataAt + checkedCover(tensors), tensors };
}

/** The bytes of the image before its tensors. */
export function headerBytes(text: string): Buffer {
  const json = Buffer.from(text, 'utf8');
  const prefix = Buffer.alloc(LENGTH_BYTES);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([prefix, json]);
}

function decoded(json: Buffer): string {
  if (json[0] !== 0x7b) throw new BadHeader("has a header that does not begin with '{'; it is not a safetensors file");
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(json);
  } catch {
    throw new BadHeader('has a header that is not UTF-8');
  }
}

function parsed(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    return objectSchema.parse(value);
  } catch {
    throw new BadHeader('has a header that is not a JSON object');
  }
}

function checkedEntry(name: string, value: unknown): TensorEntry {
  const result = entrySchema.safeParse(value);
  if (!result.success) {
    throw new BadHeader(`has a tensor ${JSON.stringify(name)} without a proper dtype, shape and data_offsets`);
  }
  const { dtype, shape, data_offsets } = result.data;
  const [begin, end] = data_offsets;
  const needed = byteCount(name, shape, elementBytes(name, dtype));
  if (end - begin !== needed) {
    throw new BadHeader(`has a tensor ${JSON.stringify(name)} that needs ${needed} bytes but spans ${end - begin}`);
  }
  return { name, dtype, shape, begin, end };
}

function elementBytes(name: string, dtype: string): number {
  const bytes = ELEMENT_BYTES.get(dtype);
  if (bytes === undefined) throw new BadHeader(`has a tensor ${JSON.stringify(name)} of an unknown dtype`);
  return bytes;
}

function byteCount(name: string, shape: readonly number[], element: number): number {
  // Sizes of zero are left out of the check: the strides of such a tensor overflow all the same.
  const strides = shape.reduce((product, size) => product * Math.max(size, 1), element);
  if (strides > Number.MAX_SAFE_INTEGER) {
    throw new BadHeader(`has a tensor ${JSON.stringify(name)} with a shape whose size overflows`);
  }
  return shape.includes(0) ? 0 : strides;
}

/** Returns how many bytes the tensors cover. */
function checkedCover(tensors: readonly TensorEntry[]): number {
  let at = 0;
  for (const { name, begin, end } of tensors) {
    if (begin < at) throw new BadHeader(`has a tensor ${JSON.stringify(name)} that overlaps another one`);
    if (begin > at) throw new BadHeader(`has a gap of ${begin - at} bytes before tensor ${JSON.stringify(name)}`);
    at = end;
  }
  return at;
}
