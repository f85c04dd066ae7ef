import { describe, expect, it } from 'vitest';
import { BadHeader, headerLength, parseImageHeader } from '../../../shared/checkpoint/image_header.js';

const f32 = (shape: readonly number[], begin: number, end: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

function parse(header: unknown) {
  return parseImageHeader(Buffer.from(typeof header === 'string' ? header : JSON.stringify(header)));
}

describe('the header of an image', () => {
  it('is read with its tensors in the order of their bytes', () => {
    const header = parse({ __metadata__: { a: 'b' }, z: f32([2], 8, 16), a: f32([2], 0, 8), empty: f32([0], 8, 8) });
    expect(header.tensors.map(({ name }) => name)).toEqual(['a', 'empty', 'z']);
    expect(header.bytes - header.dataAt).toBe(16);
  });

  it.each([
    { what: 'a pickle', header: '\x80\x04\x95', problem: "does not begin with '{'" },
    { what: 'text that is not JSON', header: '{"a":', problem: 'not a JSON object' },
    { what: 'deep nesting', header: `{"a":${'['.repeat(100_000)}`, problem: 'not a JSON object' },
    { what: 'an unknown dtype', header: { a: { ...f32([1], 0, 4), dtype: 'F128' } }, problem: 'unknown dtype' },
    { what: 'another key', header: { a: { ...f32([1], 0, 4), more: 1 } }, problem: 'without a proper dtype' },
    { what: 'a tensor that is a text', header: { a: 'x' }, problem: 'without a proper dtype' },
    { what: 'a negative size', header: { a: f32([-1], 0, 4) }, problem: 'without a proper dtype' },
    { what: 'a size that is no whole number', header: { a: f32([1.5], 0, 6) }, problem: 'without a proper dtype' },
    { what: 'a shape that overflows', header: { a: f32([2 ** 40, 2 ** 40], 0, 4) }, problem: 'overflows' },
    {
      what: 'a shape that overflows beside a zero',
      header: { a: f32([0, 2 ** 40, 2 ** 40], 0, 0) },
      problem: 'overflows',
    },
    {
      what: 'a size beyond 2^53',
      header: '{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,9007199254740993]}}',
      problem: 'proper',
    },
    { what: 'too many dimensions', header: { a: f32(Array(65).fill(1), 0, 4) }, problem: 'without a proper dtype' },
    { what: 'offsets that are too short', header: { a: f32([2], 0, 4) }, problem: 'needs 8 bytes but spans 4' },
    { what: 'offsets the wrong way round', header: { a: f32([1], 4, 0) }, problem: 'needs 4 bytes but spans -4' },
    { what: 'an overlap', header: { a: f32([2], 0, 8), b: f32([2], 4, 12) }, problem: 'overlaps' },
    { what: 'a gap', header: { a: f32([1], 0, 4), b: f32([1], 8, 12) }, problem: 'a gap of 4 bytes' },
    { what: 'metadata of numbers', header: { __metadata__: { a: 1 } }, problem: '__metadata__' },
    {
      what: 'a name that has an own meaning in JavaScript',
      header: '{"__proto__":{"dtype":"F32"}}',
      problem: '__proto__',
    },
  ])('with $what is refused', ({ header, problem }) => {
    expect(() => parse(header)).toThrow(BadHeader);
    expect(() => parse(header)).toThrow(problem);
  });

  it('that is not UTF-8 is refused', () => {
    expect(() => parseImageHeader(Buffer.from([0x7b, 0xff, 0x7d]))).toThrow('not UTF-8');
  });

  it('of 2^60 bytes is refused before anything is read', () => {
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(2n ** 60n);
    expect(() => headerLength(prefix)).toThrow('at most 33554432 are allowed');
  });
});
