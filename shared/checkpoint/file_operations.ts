/** The operations on files that checkpoints are made with, and nothing else: so that tests can stop, fail or lose any of them. */
import {
  close,
  constants,
  fdatasync,
  fstat,
  fsync,
  lstat,
  mkdir,
  open,
  read,
  readdir,
  rename,
  rmdir,
  unlink,
  write,
} from 'node:fs';
import { promisify } from 'node:util';
import { Slots } from './slots.js';

export interface FileStatus {
  readonly kind: 'file' | 'folder' | 'other';
  readonly bytes: number;
  /** When its content or its name last changed, wall clock. */
  readonly changedMs: number;
}

export interface OpenFile {
  /** Returns how many bytes were read: fewer than asked for, or 0 at the end of the file. */
  read(target: Buffer, at: number): Promise<number>;
  /** Returns how many bytes were written, which may be fewer than asked for. */
  write(piece: Buffer, at: number): Promise<number>;
  /** Content and length are on the device when this resolves. */
  syncData(): Promise<void>;
  sync(): Promise<void>;
  status(): Promise<FileStatus>;
  close(): Promise<void>;
}

/** What to open: `create` fails where something has that name; the others refuse links and never wait for a FIFO. */
export type OpenMode = 'create' | 'read' | 'folder';

/** All reject with the system's errors. */
export interface FileOperations {
  open(path: string, mode: OpenMode): Promise<OpenFile>;
  mkdir(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  readdir(path: string): Promise<readonly string[]>;
  unlink(path: string): Promise<void>;
  rmdir(path: string): Promise<void>;
  /** Of the name itself: links are not followed. */
  status(path: string): Promise<FileStatus>;
}

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;
const FLAGS: Readonly<Record<OpenMode, number>> = {
  create: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
  read: O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
  folder: O_RDONLY | O_DIRECTORY,
};

/**
 * Node carries out file operations in four threads, which all of a process's threads share. A save must leave some of them to the
 * daemon, even if the disk hangs.
 */
const slots = new Slots(2);

const calls = {
  open: promisify(open),
  read: promisify(read),
  write: promisify(write),
  fdatasync: promisify(fdatasync),
  fsync: promisify(fsync),
  fstat: promisify(fstat),
  close: promisify(close),
  mkdir: promisify(mkdir),
  rename: promisify(rename),
  readdir: promisify(readdir),
  unlink: promisify(unlink),
  rmdir: promisify(rmdir),
  lstat: promisify(lstat),
};

export const realFiles: FileOperations = {
  open: async (path, mode) => new DescriptorFile(await slots.run(() => calls.open(path, FLAGS[mode]))),
  mkdir: (path) => slots.run(() => calls.mkdir(path)),
  rename: (from, to) => slots.run(() => calls.rename(from, to)),
  readdir: (path) => slots.run(() => calls.readdir(path)),
  unlink: (path) => slots.run(() => calls.unlink(path)),
  rmdir: (path) => slots.run(() => calls.rmdir(path)),
  status: async (path) => statusOf(await slots.run(() => calls.lstat(path))),
};

/** A file that is open already, for example a memory file. Whoever opened it decides when it is closed. */
export class DescriptorFile implements OpenFile {
  constructor(private readonly fd: number) {}

  async read(target: Buffer, at: number): Promise<number> {
    const { bytesRead } = await slots.run(() => calls.read(this.fd, target, 0, target.length, at));
    return bytesRead;
  }

  async write(piece: Buffer, at: number): Promise<number> {
    const { bytesWritten } = await slots.run(() => calls.write(this.fd, piece, 0, piece.length, at));
    return bytesWritten;
  }

  syncData(): Promise<void> {
    return slots.run(() => calls.fdatasync(this.fd));
  }

  sync(): Promise<void> {
    return slots.run(() => calls.fsync(this.fd));
  }

  async status(): Promise<FileStatus> {
    return statusOf(await slots.run(() => calls.fstat(this.fd)));
  }

  close(): Promise<void> {
    return slots.run(() => calls.close(this.fd));
  }
}

function statusOf(stats: {
  isFile(): boolean;
  isDirectory(): boolean;
  size: number;
  mtimeMs: number;
  ctimeMs: number;
}): FileStatus {
  const kind = stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : 'other';
  return { kind, bytes: stats.size, changedMs: Math.max(stats.mtimeMs, stats.ctimeMs) };
}
