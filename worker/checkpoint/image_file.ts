/** The image of a training state in a memory file, by its descriptor. */
import { closeSync, fstatSync, ftruncateSync, writeSync } from 'node:fs';
import { DescriptorFile } from '../../shared/checkpoint/file_operations.js';
import {
  BadHeader,
  headerLength,
  type ImageHeader,
  LENGTH_BYTES,
  parseImageHeader,
} from '../../shared/checkpoint/image_header.js';

/** The memory does not hold what the command says. */
export class BadImage extends Error {
  constructor(problem: string) {
    super(`the state in memory ${problem}`);
    this.name = 'BadImage';
  }
}

export class ImageFile {
  readonly #file: DescriptorFile;

  constructor(private readonly fd: number) {
    this.#file = new DescriptorFile(fd);
  }

  /** Reads and checks the header of an image that is `bytes` long. */
  async header(bytes: number): Promise<ImageHeader> {
    if (bytes < LENGTH_BYTES) throw new BadImage(`is only ${bytes} bytes long`);
    const prefix = Buffer.alloc(LENGTH_BYTES);
    await this.read(prefix, 0);
    try {
      const length = headerLength(prefix);
      if (LENGTH_BYTES + length > bytes) throw new BadHeader('is shorter than its header');
      const json = Buffer.alloc(length);
      await this.read(json, LENGTH_BYTES);
      const header = parseImageHeader(json);
      if (header.bytes !== bytes) throw new BadHeader(`has ${bytes} bytes, but its header describes ${header.bytes}`);
      return header;
    } catch (error) {
      throw error instanceof BadHeader ? new BadImage(error.problem) : error;
    }
  }

  /** Fills the buffer. */
  async read(target: Buffer, at: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const count = await this.#file.read(target.subarray(done), at + done);
      if (count === 0) throw new BadImage(`ends at byte ${at + done}`);
      done += count;
    }
  }

  /**
   * In this thread, which takes a millisecond for a piece: when the call returns nothing of it is under way, so that an act that is
   * stopped writes nothing more to memory that may soon be used for something else.
   */
  write(piece: Buffer, at: number): void {
    let done = 0;
    while (done < piece.length) done += writeSync(this.fd, piece, done, piece.length - done, at + done);
  }

  /** Never makes it shorter: what others have mapped must stay. */
  grow(bytes: number): void {
    if (fstatSync(this.fd).size < bytes) ftruncateSync(this.fd, bytes);
  }

  close(): void {
    closeSync(this.fd);
  }
}
