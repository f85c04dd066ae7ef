/**
 * How workers on one host read each other's exchange memory instead of sending it through a socket.
 *
 * A memory file has no name, but a process of the same user on the same host can open it through /proc. The inode tells that it is the
 * right one. What lies in it was true when the peer said so; whether it still is, is asked of the peer's epoch after it was read: a
 * worker counts its epoch up whenever it leaves a generation, which it does before any slot that members of that generation may still be
 * reading is written again. (Within a generation the order of steps sees to that: nobody commits a step without every other's segment of
 * it, so nobody's partial or reduced vector is overwritten while another still needs it. That a segment has come through a carrier
 * changes nothing: its owner could not reduce it before every carrier had added up what it needed.)
 */
import { closeSync, fstatSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import { MemoryFile } from '../io/memory_file.js';
import { ExchangeMemory } from './exchange_memory.js';
import type { MemoryPlace } from './facts.js';

const PAGE_BYTES = 4096;

/**
 * Names what processes must share to read each other's memory: the running kernel, the process ids, and the network. Workers in network
 * namespaces of their own count as hosts of their own.
 */
export function hostIdentity(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return [boot, readlinkSync('/proc/self/ns/pid'), readlinkSync('/proc/self/ns/net')].join(' ');
}

/** The identity with the process that is to be asked. */
export function hostHeader(): string {
  return `${process.pid} ${hostIdentity()}`;
}

/** The peer's process id, if its header names our host. */
export function pidOnOurHost(header: string): number | undefined {
  const space = header.indexOf(' ');
  const pid = Number(header.slice(0, space));
  return space > 0 && Number.isSafeInteger(pid) && header.slice(space + 1) === hostIdentity() ? pid : undefined;
}

/** A count in shared memory that peers can see. */
export class Epoch {
  readonly #file: MemoryFile;
  readonly #word: Uint32Array;

  constructor(name: string) {
    this.#file = MemoryFile.create(name);
    this.#file.grow(PAGE_BYTES);
    this.#word = wordOf(this.#file);
  }

  get fd(): number {
    return this.#file.fd;
  }

  get value(): number {
    return Atomics.load(this.#word, 0);
  }

  /** Whatever members of the generation are reading now does not count any more. */
  advance(): void {
    Atomics.add(this.#word, 0, 1);
  }

  close(): void {
    this.advance();
    this.#file.close();
  }
}

function wordOf(file: MemoryFile): Uint32Array {
  const bytes = file.map(0, PAGE_BYTES).bytes(0, 4);
  return new Uint32Array(bytes.buffer, bytes.byteOffset, 1);
}

export function inodeOf(fd: number): number {
  return fstatSync(fd).ino;
}

/** The exchange memory of one job of a peer on this host. */
export class PeerMemory {
  readonly #fds: readonly number[];
  readonly #memory: ExchangeMemory;
  readonly #epochFile: MemoryFile;
  readonly #epoch: Uint32Array;

  /** Throws when the files cannot be opened, or are not those that the place names. */
  constructor(
    pid: number,
    readonly place: MemoryPlace,
    vectorBytes: number,
  ) {
    const opened: number[] = [];
    try {
      opened.push(open(pid, place.fd, place.inode));
      opened.push(open(pid, place.epochFd, place.epochInode));
      const [exchange, epoch] = opened;
      if (exchange === undefined || epoch === undefined) throw new Error('nothing was opened');
      this.#memory = new ExchangeMemory(exchange, vectorBytes);
      this.#epochFile = MemoryFile.borrow(epoch);
      this.#epoch = wordOf(this.#epochFile);
    } catch (error) {
      for (const fd of opened) closeSync(fd);
      throw error;
    }
    this.#fds = opened;
  }

  isOf({ inode, epochInode }: MemoryPlace): boolean {
    return inode === this.place.inode && epochInode === this.place.epochInode;
  }

  bytes(slot: number, at: number, length: number): Buffer {
    return this.#memory.bytes(slot, at, length);
  }

  get epoch(): number {
    return Atomics.load(this.#epoch, 0);
  }

  close(): void {
    this.#memory.close();
    this.#epochFile.close();
    for (const fd of this.#fds) closeSync(fd);
  }
}

function open(pid: number, fd: number, inode: number): number {
  const own = openSync(`/proc/${pid}/fd/${fd}`, 'r+');
  if (inodeOf(own) === inode) return own;
  closeSync(own);
  throw new Error(`descriptor ${fd} of process ${pid} is another file`);
}
