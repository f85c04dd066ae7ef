/** Memory for chunks that wait to be added, used again and again: the steady state allocates none. */
import { CHUNK_BYTES } from './segments.js';

export class ChunkPool {
  readonly #free: ArrayBufferLike[] = [];

  /** Memory for `length` bytes, at most a chunk; nobody else has it until it is given back. */
  take(length: number): Buffer {
    const memory = this.#free.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES).buffer;
    return Buffer.from(memory, 0, length);
  }

  giveBack(chunk: Buffer): void {
    this.#free.push(chunk.buffer);
  }
}
