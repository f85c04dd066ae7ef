/** A file system in memory that knows what of it would survive a loss of power: what was synced, and of the rest whatever a test chooses. */
import { dirname } from 'node:path';
import type { FileOperations, FileStatus, OpenFile, OpenMode } from '../../../shared/checkpoint/file_operations.js';
import { systemError } from './interposed_files.js';

interface File {
  readonly kind: 'file';
  data: Buffer;
  durable: Buffer;
}

interface Folder {
  readonly kind: 'folder';
  entries: ReadonlyMap<string, Inode>;
  durable: ReadonlyMap<string, Inode>;
}

type Inode = File | Folder;

/** What becomes of names and bytes that were not synced. */
export interface Loss {
  entries(): 'kept' | 'lost';
  data(): 'kept' | 'lost' | 'zeros';
}

export const LOSSES: Readonly<Record<string, Loss>> = {
  'nothing is lost': { entries: () => 'kept', data: () => 'kept' },
  'all that was not synced is lost': { entries: () => 'lost', data: () => 'lost' },
  'names are kept, data is lost': { entries: () => 'kept', data: () => 'lost' },
  'names are kept, data is zeros': { entries: () => 'kept', data: () => 'zeros' },
  'data is kept, names are lost': { entries: () => 'lost', data: () => 'kept' },
};

export function randomLoss(random: () => number): Loss {
  return {
    entries: () => (random() < 0.5 ? 'kept' : 'lost'),
    data: () => (['kept', 'lost', 'zeros'] as const)[Math.floor(random() * 3)] ?? 'kept',
  };
}

function newFolder(): Folder {
  return { kind: 'folder', entries: new Map(), durable: new Map() };
}

export class MemoryDisk implements FileOperations {
  constructor(private readonly root: Folder = newFolder()) {}

  /** The disk as it is found afterwards. This one stays as it is. */
  after(loss: Loss): MemoryDisk {
    const seen = new Map<Inode, Inode>();
    const survivor = (inode: Inode): Inode => {
      const known = seen.get(inode);
      if (known !== undefined) return known;
      if (inode.kind === 'file') {
        const data = survivingData(inode, loss.data());
        const file: File = { kind: 'file', data, durable: data };
        seen.set(inode, file);
        return file;
      }
      const folder = newFolder();
      seen.set(inode, folder);
      const entries = loss.entries() === 'kept' ? inode.entries : inode.durable;
      folder.entries = new Map([...entries].map(([name, child]) => [name, survivor(child)]));
      folder.durable = folder.entries;
      return folder;
    };
    const root = survivor(this.root);
    return new MemoryDisk(root.kind === 'folder' ? root : newFolder());
  }

  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    const existing = this.#find(path);
    if (mode === 'create') {
      if (existing !== undefined) throw systemError('EEXIST', path);
      const file: File = { kind: 'file', data: Buffer.alloc(0), durable: Buffer.alloc(0) };
      this.#set(path, file);
      return new MemoryDiskFile(file);
    }
    if (existing === undefined) throw systemError('ENOENT', path);
    if (mode === 'folder' && existing.kind !== 'folder') throw systemError('ENOTDIR', path);
    return new MemoryDiskFile(existing);
  }

  async mkdir(path: string): Promise<void> {
    if (this.#find(path) !== undefined) throw systemError('EEXIST', path);
    this.#set(path, newFolder());
  }

  async rename(from: string, to: string): Promise<void> {
    const inode = this.#find(from);
    const target = this.#find(to);
    if (inode === undefined) throw systemError('ENOENT', from);
    if (target !== undefined && inode.kind === 'folder' && target.kind === 'file') throw systemError('ENOTDIR', to);
    if (target?.kind === 'folder' && inode.kind === 'file') throw systemError('EISDIR', to);
    if (target?.kind === 'folder' && target.entries.size > 0) throw systemError('ENOTEMPTY', to);
    this.#set(to, inode);
    this.#set(from, undefined);
  }

  async readdir(path: string): Promise<readonly string[]> {
    return [...this.#folder(path).entries.keys()];
  }

  async unlink(path: string): Promise<void> {
    const inode = this.#find(path);
    if (inode === undefined) throw systemError('ENOENT', path);
    if (inode.kind === 'folder') throw systemError('EISDIR', path);
    this.#set(path, undefined);
  }

  async rmdir(path: string): Promise<void> {
    if (this.#folder(path).entries.size > 0) throw systemError('ENOTEMPTY', path);
    this.#set(path, undefined);
  }

  async status(path: string): Promise<FileStatus> {
    const inode = this.#find(path);
    if (inode === undefined) throw systemError('ENOENT', path);
    return statusOf(inode);
  }

  #find(path: string): Inode | undefined {
    let inode: Inode | undefined = this.root;
    for (const part of path.split('/').filter((name) => name !== '')) {
      if (inode?.kind === 'file') throw systemError('ENOTDIR', path);
      inode = inode?.entries.get(part);
    }
    return inode;
  }

  #folder(path: string): Folder {
    const inode = this.#find(path);
    if (inode === undefined) throw systemError('ENOENT', path);
    if (inode.kind === 'file') throw systemError('ENOTDIR', path);
    return inode;
  }

  #set(path: string, inode: Inode | undefined): void {
    const folder = this.#folder(dirname(path));
    const name = path.slice(path.lastIndexOf('/') + 1);
    const entries = new Map(folder.entries);
    if (inode === undefined) entries.delete(name);
    else entries.set(name, inode);
    folder.entries = entries;
  }
}

class MemoryDiskFile implements OpenFile {
  constructor(private readonly inode: Inode) {}

  async read(target: Buffer, at: number): Promise<number> {
    return this.inode.kind === 'file'
      ? this.inode.data.copy(target, 0, at)
      : Promise.reject(systemError('EISDIR', 'read'));
  }

  async write(piece: Buffer, at: number): Promise<number> {
    if (this.inode.kind !== 'file') throw systemError('EISDIR', 'write');
    const data = Buffer.alloc(Math.max(this.inode.data.length, at + piece.length));
    this.inode.data.copy(data);
    piece.copy(data, at);
    this.inode.data = data;
    return piece.length;
  }

  async syncData(): Promise<void> {
    await this.sync();
  }

  async sync(): Promise<void> {
    if (this.inode.kind === 'file') this.inode.durable = this.inode.data;
    else this.inode.durable = this.inode.entries;
  }

  async status(): Promise<FileStatus> {
    return statusOf(this.inode);
  }

  async close(): Promise<void> {
    // Nothing is lost by closing, and nothing gained.
  }
}

function survivingData(file: File, fate: ReturnType<Loss['data']>): Buffer {
  if (fate === 'kept' || file.data.equals(file.durable)) return file.data;
  return fate === 'lost' ? file.durable : Buffer.alloc(file.data.length);
}

function statusOf(inode: Inode): FileStatus {
  return { kind: inode.kind, bytes: inode.kind === 'file' ? inode.data.length : 0, changedMs: Date.now() };
}
