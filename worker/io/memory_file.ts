/**
 * Memory files: memfds that the daemon, its data-plane thread and its engine map at the same time.
 *
 * A memfd has no name in any file system, so nothing is left behind however a process dies. Ours is close-on-exec; the copy that
 * `spawn` puts in an engine's stdio list is not (libuv clears the flag on it).
 *
 * Ownership of mapped memory: an ArrayBuffer over a mapping must never outlive the mapping. So a mapping is taken down only when the
 * garbage collector has found its ArrayBuffer unreachable. `release` gives the pages back at once all the same: it lays
 * private zero pages over the same addresses, so that a forgotten view reads zeros instead of crashing the process.
 * Never transfer such an ArrayBuffer (postMessage, structuredClone): the memory would outlive what keeps it mapped.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import koffi from 'koffi';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 0x01;
const F_SEAL_SHRINK = 0x02;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 2n ** 64n - 1n;

/** Node cannot make an external ArrayBuffer of more than 4 GiB, so longer regions are mapped in windows. */
const WINDOW_BYTES = 2 ** 30;

const libc = koffi.load('libc.so.6');
const memfdCreate = libc.func('int memfd_create(const char *name, unsigned int flags)');
const fcntl = libc.func('int fcntl(int fd, int command, ...)');
const ftruncate = libc.func('int ftruncate(int fd, int64_t length)');
const mmap = libc.func('uintptr_t mmap(uintptr_t address, size_t length, int prot, int flags, int fd, int64_t offset)');
const munmap = libc.func('int munmap(uintptr_t address, size_t length)');

/** A call on a memory file failed. */
export class MemoryFileError extends Error {
  constructor(
    /** The C function. */
    readonly call: 'memfd_create' | 'fcntl' | 'ftruncate' | 'mmap',
    /** The C library's error number. */
    readonly errno: number,
    detail: string,
  ) {
    super(`${call} failed with errno ${errno}: ${detail}`);
    this.name = 'MemoryFileError';
  }
}

/** A part of a memory file was asked for that lies beyond its end; touching it would kill the process with SIGBUS. */
export class MemoryFileTooShortError extends Error {
  constructor(
    readonly fd: number,
    readonly sizeBytes: number,
    readonly neededBytes: number,
  ) {
    super(`memory file ${fd} is ${sizeBytes} bytes long, ${neededBytes} are needed`);
    this.name = 'MemoryFileTooShortError';
  }
}

interface Mapping {
  readonly address: bigint;
  readonly length: number;
}

const unmapWhenUnreachable = new FinalizationRegistry<Mapping>(({ address, length }) => {
  munmap(address, length);
});

function map(fd: number, offset: number, length: number): Mapping {
  const address = BigInt(mmap(0, length, PROT_READ_WRITE, MAP_SHARED, fd, offset));
  if (address === MAP_FAILED) {
    throw new MemoryFileError('mmap', koffi.errno(), `${length} bytes at ${offset} of descriptor ${fd}`);
  }
  return { address, length };
}

/** A mapped run of a memory file. Offsets are bytes from the start of the region. */
export class MemoryRegion {
  readonly #windows: { readonly mapping: Mapping; readonly buffer: ArrayBuffer }[] = [];

  /** `offset` must be a multiple of the page size, and the file long enough. */
  constructor(
    fd: number,
    offset: number,
    readonly length: number,
  ) {
    for (let at = 0; at < length; at += WINDOW_BYTES) {
      const mapping = map(fd, offset + at, Math.min(WINDOW_BYTES, length - at));
      const buffer = koffi.view(mapping.address, mapping.length);
      unmapWhenUnreachable.register(buffer, mapping);
      this.#windows.push({ mapping, buffer });
    }
  }

  /** A view, not a copy. A run must not cross a multiple of 1 GiB. */
  bytes(at: number, length: number): Buffer<ArrayBuffer> {
    return Buffer.from(this.#windowOf(at, length), at % WINDOW_BYTES, length);
  }

  /** A view, not a copy, of `count` fp32 elements. `at` is in bytes and a multiple of 4. */
  floats(at: number, count: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.#windowOf(at, count * 4), at % WINDOW_BYTES, count);
  }

  #windowOf(at: number, length: number): ArrayBuffer {
    const window = this.#windows[Math.floor(at / WINDOW_BYTES)];
    if (window === undefined || at + length > this.length) {
      throw new RangeError(`bytes ${at} to ${at + length} are outside a region of ${this.length} bytes`);
    }
    return window.buffer;
  }

  /** Gives the memory back now. Views that are still around read zeros from here on. */
  release(): void {
    for (const { mapping } of this.#windows.splice(0)) {
      const flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
      mmap(mapping.address, mapping.length, PROT_READ_WRITE, flags, -1, 0);
    }
  }
}

function createdFd(name: string, flags: number): number {
  const fd: number = memfdCreate(name, MFD_CLOEXEC | flags);
  if (fd < 0) throw new MemoryFileError('memfd_create', koffi.errno(), name);
  return fd;
}

export class MemoryFile {
  readonly #regions = new Set<MemoryRegion>();

  private constructor(
    /** Hand it to `spawn` in the stdio list, or to another thread of this process. */
    readonly fd: number,
    private readonly owned: boolean,
  ) {}

  /** A new, empty file. `name` shows in /proc/<pid>/maps. */
  static create(name: string): MemoryFile {
    return new MemoryFile(createdFd(name, 0), true);
  }

  /** One that nobody can make shorter, whoever has it: touching what is mapped of it is safe for good. */
  static createUnshrinkable(name: string): MemoryFile {
    const fd = createdFd(name, MFD_ALLOW_SEALING);
    // Sealed against further seals, too: one against growing would leave us without memory for the next step.
    if (fcntl(fd, F_ADD_SEALS, 'int', F_SEAL_SHRINK | F_SEAL_SEAL) !== 0) {
      throw new MemoryFileError('fcntl', koffi.errno(), `seals of ${name}`);
    }
    return new MemoryFile(fd, true);
  }

  /** The file behind a descriptor that belongs to somebody else, who will close it. */
  static borrow(fd: number): MemoryFile {
    return new MemoryFile(fd, false);
  }

  /** Length in bytes. */
  size(): number {
    return fstatSync(this.fd).size;
  }

  /** Makes the file at least `bytes` long; what is mapped stays mapped. New bytes are zero and take memory when they are first touched. */
  grow(bytes: number): void {
    if (this.size() >= bytes) return;
    if (ftruncate(this.fd, bytes) !== 0) {
      throw new MemoryFileError('ftruncate', koffi.errno(), `descriptor ${this.fd} to ${bytes} bytes`);
    }
  }

  /** Another descriptor of the same memory, for whoever outlives this file; it closes it. */
  reopen(): number {
    return openSync(`/proc/self/fd/${this.fd}`, 'r+');
  }

  /** Maps `length` bytes at `offset`, a multiple of the page size. The same run asked for twice is mapped twice. */
  map(offset: number, length: number): MemoryRegion {
    const size = this.size();
    if (offset + length > size) throw new MemoryFileTooShortError(this.fd, size, offset + length);
    const region = new MemoryRegion(this.fd, offset, length);
    this.#regions.add(region);
    return region;
  }

  /** Gives back every region, and closes the descriptor if it is our own. */
  close(): void {
    for (const region of this.#regions) region.release();
    this.#regions.clear();
    if (this.owned) closeSync(this.fd);
  }
}
