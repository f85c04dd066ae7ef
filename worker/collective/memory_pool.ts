/** Equal pieces of memory that are used again and again: the steady state allocates none. */

export class MemoryPool {
  readonly #free: ArrayBufferLike[] = [];

  constructor(private readonly pieceBytes: number) {}

  /** Memory for `length` bytes, at most a piece; nobody else has it until it is given back. */
  take(length: number): Buffer {
    const memory = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.pieceBytes).buffer;
    return Buffer.from(memory, 0, length);
  }

  giveBack(piece: Buffer): void {
    this.#free.push(piece.buffer);
  }
}
