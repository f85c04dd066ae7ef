/** Images of training states, made up from a seed. */
import { createHash } from 'node:crypto';
import { headerBytes, type ImageHeader, parseImageHeader } from '../../../shared/checkpoint/image_header.js';

export interface TensorShape {
  readonly name: string;
  /** Of fp32 elements. */
  readonly shape: readonly number[];
}

export interface Image {
  readonly bytes: Buffer;
  readonly header: ImageHeader;
  readonly sha256: string;
}

/** xorshift32: the same numbers for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

export function randomBytesFrom(seed: number, length: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  const random = randomFrom(seed);
  for (let index = 0; index < words.length; index++) words[index] = random() * 2 ** 32;
  return Buffer.from(words.buffer, 0, length);
}

export function headerOf(tensors: readonly TensorShape[]): ImageHeader {
  let at = 0;
  const members = tensors.map(({ name, shape }) => {
    const begin = at;
    at += shape.reduce((product, size) => product * size, 4);
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype: 'F32', shape, data_offsets: [begin, at] })}`;
  });
  const text = `{"__metadata__":{"optimizer":"{\\"lr\\": 0.1}"}${members.map((member) => `,${member}`).join('')}}`;
  return parseImageHeader(Buffer.from(text + ' '.repeat(-Buffer.byteLength(text) & 7)));
}

export function imageOf(tensors: readonly TensorShape[], seed = 1): Image {
  const header = headerOf(tensors);
  const head = headerBytes(header.text);
  const bytes = Buffer.concat([head, randomBytesFrom(seed, header.bytes - head.length)]);
  return { bytes, header, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** A few tensors of different lengths, with names that need escapes and one that looks like a number. */
export const SOME_TENSORS: readonly TensorShape[] = [
  { name: 'parameter.layer.0.weight', shape: [40, 50] },
  { name: '7', shape: [3] },
  { name: 'parameter."quoted" \u00e9', shape: [17, 3] },
  { name: 'buffer.empty', shape: [0, 4] },
  { name: 'optimizer.0.exp_avg', shape: [40, 50] },
  { name: 'optimizer.scalar', shape: [] },
];
