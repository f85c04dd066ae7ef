/** The slots of a job's exchange memory, each mapped when it is first used and then kept. */
import { MemoryFile, type MemoryRegion } from '../io/memory_file.js';
import { slotBytes } from './data_plane.js';

export class ExchangeMemory {
  readonly #file: MemoryFile;
  readonly #slotBytes: number;
  readonly #slots = new Map<number, MemoryRegion>();

  constructor(
    fd: number,
    readonly vectorBytes: number,
  ) {
    this.#slotBytes = slotBytes(vectorBytes);
    this.#file = MemoryFile.borrow(fd);
  }

  /** A view of a run of a slot's vector. A run must lie within one bucket. */
  bytes(slot: number, at: number, length: number): Buffer {
    return this.#slot(slot).bytes(at, length);
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
