/** The slots of a job's exchange memory, each mapped when it is first used and then kept. */
import { MemoryFile, type MemoryRegion } from '../io/memory_file.js';
import { slotBytes } from './data_plane.js';

export class ExchangeMemory {
  readonly vectorBytes: number;
  readonly #file: MemoryFile;
  readonly #slotBytes: number;
  readonly #slots = new Map<number, MemoryRegion>();

  constructor(fd: number, elements: number) {
    this.vectorBytes = elements * 4;
    this.#slotBytes = slotBytes(elements);
    this.#file = MemoryFile.borrow(fd);
  }

  /** A view of a run of a slot's vector. A run must lie within one bucket. */
  bytes(slot: number, at: number, length: number): Buffer {
    return this.#slot(slot).bytes(at, length);
  }

  /** The same as fp32 elements; `at` and `length` are in bytes. */
  floats(slot: number, at: number, length: number): Float32Array {
    return this.#slot(slot).floats(at, length / 4);
  }

  #slot(slot: number): MemoryRegion {
    const known = this.#slots.get(slot);
    if (known !== undefined) return known;
    const region = this.#file.map(slot * this.#slotBytes, this.#slotBytes);
    this.#slots.set(slot, region);
    return region;
  }

  close(): void {
    this.#slots.clear();
    this.#file.close();
  }
}
