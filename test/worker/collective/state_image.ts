/** Images of training states in memory files, and workers that publish and fetch them. */
import { createHash } from 'node:crypto';
import type { ByteRange } from '../../../worker/checkpoint/checkpoints.js';
import { MemoryFile } from '../../../worker/io/memory_file.js';
import type { TestWorker } from './test_worker.js';

export interface StateImage {
  readonly file: MemoryFile;
  /** A view of the file. */
  readonly bytes: Buffer;
  /** Of the bytes as they were made. */
  readonly sha256: string;
}

/** Seeded noise. */
export function stateImage(length: number, seed: number): StateImage {
  const file = MemoryFile.create('state');
  file.grow(length);
  const bytes = file.map(0, length).bytes(0, length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE((Math.imul(at, 2_654_435_761) + seed) >>> 0, at);
  return { file, bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** Contiguous ranges that together are the whole. */
export function partsOf(length: number, parts: number): readonly ByteRange[] {
  return Array.from({ length: parts }, (_, part) => {
    const at = Math.floor((part * length) / parts);
    return { at, length: Math.floor(((part + 1) * length) / parts) - at };
  });
}

/** A worker that restores: its state memory holds some ranges of the image, read from storage as it were, and zeros elsewhere. */
export class Restorer {
  readonly file = MemoryFile.create('restored');
  readonly #memory: Buffer;

  constructor(
    readonly worker: TestWorker,
    readonly image: StateImage,
    readonly own: readonly ByteRange[],
    readonly committed = 7,
  ) {
    this.file.grow(image.bytes.length);
    this.#memory = this.file.map(0, image.bytes.length).bytes(0, image.bytes.length);
    for (const range of own) this.#run(range).set(this.#imageOf(range));
  }

  #run({ at, length }: ByteRange): Buffer {
    return this.#memory.subarray(at, at + length);
  }

  #imageOf({ at, length }: ByteRange): Buffer {
    return this.image.bytes.subarray(at, at + length);
  }

  /** Whether the run is in the memory as it is in the image. */
  holds(range: ByteRange): boolean {
    return this.#run(range).equals(this.#imageOf(range));
  }

  get isWhole(): boolean {
    return this.holds({ at: 0, length: this.image.bytes.length });
  }

  flipBitAt(at: number): void {
    this.#memory.writeUInt8(this.#memory.readUInt8(at) ^ 1, at);
  }

  publish(ranges: readonly ByteRange[] = this.own): void {
    this.worker.tell({ kind: 'publish_state', ...this.#named, ...this.#identity, ranges });
  }

  publishWhole(): void {
    this.worker.tell({ kind: 'publish_state', ...this.#named, ...this.#identity });
  }

  fetch(ranks: readonly number[], missing: readonly ByteRange[]): void {
    this.worker.tell({ kind: 'fetch_state', ...this.#named, ranks, expected: this.#identity, missing });
  }

  get #named() {
    return { job: this.worker.job, committed: this.committed, fd: this.file.fd };
  }

  get #identity() {
    return { bytes: this.image.bytes.length, sha256: this.image.sha256 };
  }
}
