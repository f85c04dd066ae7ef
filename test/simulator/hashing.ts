/** Cheap hashes of 53 bits: what stands for weights and gradients here, and what traces are compared by. */

/** A hash of both numbers; the order counts. */
export function mix(left: number, right: number): number {
  let h1 = Math.imul((left >>> 0) ^ 0x9e3779b9, 0x85ebca6b);
  let h2 = Math.imul(Math.floor(left / 2 ** 32) ^ 0x41c6ce57, 0xc2b2ae35);
  h1 = Math.imul(h1 ^ (h1 >>> 15) ^ (right >>> 0), 0x2c1b3c6d);
  h2 = Math.imul(h2 ^ (h2 >>> 13) ^ Math.floor(right / 2 ** 32) ^ h1, 0x297a2d39);
  h1 = Math.imul(h1 ^ (h1 >>> 16) ^ h2, 0x7feb352d);
  h2 = Math.imul(h2 ^ (h2 >>> 15) ^ h1, 0x846ca68b);
  return 2 ** 32 * ((h2 ^ (h2 >>> 16)) & 0x1fffff) + ((h1 ^ (h1 >>> 16)) >>> 0);
}

export function hashText(text: string): number {
  let h1 = 0x811c9dc5;
  let h2 = 0x01000193;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    h1 = Math.imul(h1 ^ code, 0x01000193);
    h2 = Math.imul(h2 ^ code, 0x85ebca6b) ^ (h1 >>> 13);
  }
  return mix(h1 >>> 0, h2 >>> 0);
}

/** A hash as 64 hexadecimal digits, as digests are written. */
export function digestOf(hash: number): string {
  return hash.toString(16).padStart(14, '0').padEnd(64, '0');
}
