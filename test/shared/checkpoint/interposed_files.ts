/** Stands between a save and its files: can stop the world, fail an operation, or decide who goes next. */
import type { FileOperations, OpenFile } from '../../../shared/checkpoint/file_operations.js';

export interface Operation {
  readonly name: string;
  /** What it is done to; of an open file the name that it was opened by. */
  readonly path: string;
  /** Of a write: does the first half of it. */
  readonly half?: () => Promise<unknown>;
}

/** Called instead of each operation; `act` carries it out. */
export type Hook = <T>(operation: Operation, act: () => Promise<T>) => Promise<T>;

export class InterposedFiles implements FileOperations {
  readonly #open = new Set<OpenFile>();

  constructor(
    private readonly files: FileOperations,
    private readonly hook: Hook,
  ) {}

  async open(path: string, mode: 'create' | 'read' | 'folder'): Promise<OpenFile> {
    const file = await this.hook({ name: `open to ${mode}`, path }, () => this.files.open(path, mode));
    this.#open.add(file);
    return new InterposedFile(path, file, this.hook, () => this.#open.delete(file));
  }

  mkdir(path: string): Promise<void> {
    return this.hook({ name: 'mkdir', path }, () => this.files.mkdir(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.hook({ name: 'rename', path: `${from} to ${to}` }, () => this.files.rename(from, to));
  }

  readdir(path: string): Promise<readonly string[]> {
    return this.hook({ name: 'readdir', path }, () => this.files.readdir(path));
  }

  unlink(path: string): Promise<void> {
    return this.hook({ name: 'unlink', path }, () => this.files.unlink(path));
  }

  rmdir(path: string): Promise<void> {
    return this.hook({ name: 'rmdir', path }, () => this.files.rmdir(path));
  }

  status(path: string): ReturnType<FileOperations['status']> {
    return this.hook({ name: 'status', path }, () => this.files.status(path));
  }

  /** What the kernel does when a process dies. */
  async closeAll(): Promise<void> {
    for (const file of this.#open) await file.close();
    this.#open.clear();
  }
}

class InterposedFile implements OpenFile {
  constructor(
    private readonly path: string,
    private readonly file: OpenFile,
    private readonly hook: Hook,
    private readonly onClosed: () => void,
  ) {}

  read(target: Buffer, at: number): Promise<number> {
    return this.hook({ name: 'read', path: this.path }, () => this.file.read(target, at));
  }

  write(piece: Buffer, at: number): Promise<number> {
    const half = (): Promise<unknown> => this.file.write(piece.subarray(0, piece.length >> 1), at);
    return this.hook({ name: 'write', path: this.path, half }, () => this.file.write(piece, at));
  }

  syncData(): Promise<void> {
    return this.hook({ name: 'syncData', path: this.path }, () => this.file.syncData());
  }

  sync(): Promise<void> {
    return this.hook({ name: 'sync', path: this.path }, () => this.file.sync());
  }

  status(): ReturnType<OpenFile['status']> {
    return this.hook({ name: 'fstat', path: this.path }, () => this.file.status());
  }

  close(): Promise<void> {
    return this.hook({ name: 'close', path: this.path }, async () => {
      this.onClosed();
      await this.file.close();
    });
  }
}

/** A process that dies after so many operations, or in the middle of the write that follows. */
export class MortalFiles {
  readonly operations: string[] = [];
  readonly files: InterposedFiles;
  /** Resolves when it is dead: from then on nothing it asks for happens, or is answered. */
  readonly death: Promise<'died'>;

  constructor(base: FileOperations, options: { readonly livesFor: number; readonly halfOfTheNext?: boolean }) {
    let die: (value: 'died') => void = () => undefined;
    this.death = new Promise((resolve) => {
      die = resolve;
    });
    this.files = new InterposedFiles(base, async (operation, act) => {
      this.operations.push(`${operation.name} ${operation.path}`);
      if (this.operations.length <= options.livesFor) return act();
      if (this.operations.length === options.livesFor + 1 && options.halfOfTheNext) await operation.half?.();
      die('died');
      return new Promise(() => undefined);
    });
  }
}

/** Fails one operation with a system error. Of a write, the first half is done. */
export function failingFiles(
  base: FileOperations,
  failure: { readonly at: number; readonly code: string; readonly operations?: string[] },
): InterposedFiles {
  let count = 0;
  return new InterposedFiles(base, async (operation, act) => {
    failure.operations?.push(`${operation.name} ${operation.path}`);
    if (count++ !== failure.at) return act();
    await operation.half?.();
    // The system closes a file even if it reports an error.
    if (operation.name === 'close') await act();
    throw systemError(failure.code, `${operation.name} '${operation.path}'`);
  });
}

export function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: injected, ${what}`), { code });
}
