/** Carries out the commands of the daemon's main thread; each is an act of its own that nothing else waits for. */
import { AssertionError, strict as assert } from 'node:assert';
import { DamagedCheckpoint, oneLine } from '../../shared/checkpoint/errors.js';
import { openCheckpoint, openStorage, type StorageOptions } from '../../shared/checkpoint/open_storage.js';
import type { Draft } from '../../shared/checkpoint/storage.js';
import { Acts } from './acts.js';
import type { CheckpointCommand, CheckpointEvent, SaveName } from './checkpoints.js';
import { ImageFile } from './image_file.js';
import { publish } from './publish.js';
import { restorePart } from './restore.js';
import { writeShard } from './write_shard.js';

const PROGRESS_INTERVAL_MS = 500;

type Command<Kind extends CheckpointCommand['kind']> = Extract<CheckpointCommand, { readonly kind: Kind }>;

export interface Surroundings {
  readonly storage: StorageOptions;
  emit(event: CheckpointEvent): void;
  log(level: 'info' | 'warn', line: string): void;
}

export class CheckpointWork {
  readonly #acts = new Acts();

  constructor(private readonly surroundings: Surroundings) {}

  obey(command: CheckpointCommand): void {
    switch (command.kind) {
      case 'write_shard':
        this.#writeShard(command);
        break;
      case 'publish':
        this.#publish(command);
        break;
      case 'abandon_save':
        this.#abandonSave(command);
        break;
      case 'remove':
        this.#remove(command);
        break;
      case 'restore':
        this.#restore(command);
        break;
      case 'stop_restore':
        void this.#acts.stop(restoreKey(command.job));
        break;
    }
  }

  /** Stops everything; resolves when nothing is under way and every descriptor is closed. */
  shutDown(): Promise<void> {
    return this.#acts.stopAll();
  }

  #writeShard(command: Command<'write_shard'>): void {
    const { job, save, folder, shard, shards, bytes } = command;
    assert(shard >= 0 && shard < shards, `shard ${shard} of ${shards}`);
    this.#saveAct(command, async (image, signal) => {
      const storage = openStorage(folder, this.surroundings.storage, signal);
      const facts = await writeShard(storage, image, { draft: draftOf(command), shard, shards, bytes }, signal);
      signal.throwIfAborted();
      return { kind: 'shard_written', job, save, facts };
    });
  }

  #publish(command: Command<'publish'>): void {
    const { job, save, folder, shards, description, bytes } = command;
    assert(shards.length > 0, 'a checkpoint has at least one shard');
    const draft = draftOf(command);
    const publishIn = async (image: ImageFile, signal: AbortSignal): Promise<CheckpointEvent> => {
      const storage = openStorage(folder, this.surroundings.storage);
      const { path, manifestSha256, manifest, ...published } = await publish(
        storage,
        image,
        { draft, shards, description, bytes },
        signal,
      );
      const { stateSha256 } = manifest;
      return { kind: 'published', job, save, path, manifestSha256, stateSha256, bytes: published.bytes };
    };
    this.#saveAct(command, publishIn, () => openStorage(folder, this.surroundings.storage).tidy(draft));
  }

  /** `afterwards`: what is done when the answer is out. */
  #saveAct(
    { job, save, fd }: SaveName & { readonly fd: number },
    act: (image: ImageFile, signal: AbortSignal) => Promise<CheckpointEvent>,
    afterwards?: () => Promise<void>,
  ): void {
    this.#acts.start(saveKey(save), async (signal) => {
      const failure = await failureOf(signal, async () => {
        this.surroundings.emit(await withImage(fd, (image) => act(image, signal)));
        await afterwards?.();
      });
      if (failure === undefined) return;
      this.surroundings.emit({ kind: 'save_failed', job, save, reason: reasonOf(failure) });
    });
  }

  #abandonSave(command: Command<'abandon_save'>): void {
    const stopped = this.#acts.stop(saveKey(command.save));
    this.#acts.start(`abandon ${command.save}`, async (signal) => {
      await stopped;
      const failure = await failureOf(signal, () =>
        openStorage(command.folder, this.surroundings.storage).discard(draftOf(command)),
      );
      if (failure === undefined) return;
      this.surroundings.log('warn', `save ${command.save} is abandoned, but ${reasonOf(failure)}`);
    });
  }

  #remove({ job, path }: Command<'remove'>): void {
    this.#acts.start(`remove ${path}`, async (signal) => {
      const failure = await failureOf(signal, () => {
        const { storage, name } = openCheckpoint(path, this.surroundings.storage);
        return storage.remove(name);
      });
      this.surroundings.emit({ kind: 'removed', job, path, error: failure && reasonOf(failure) });
    });
  }

  #restore(command: Command<'restore'>): void {
    const { job, generation, path, part, parts } = command;
    assert(part >= 0 && part < parts, `part ${part} of ${parts}`);
    const key = restoreKey(job);
    // Two restores of a job may have the same memory: the new one begins when the old one has ended.
    const stopped = this.#acts.stop(key);
    this.#acts.start(key, async (signal) => {
      const failure = await failureOf(signal, async () => {
        const event = await withImage(command.fd, async (image) => {
          await stopped;
          signal.throwIfAborted();
          return this.#restoreInto(image, command, signal);
        });
        signal.throwIfAborted();
        this.surroundings.emit(event);
      });
      if (failure === undefined) return;
      const damaged = failure instanceof DamagedCheckpoint;
      this.surroundings.emit({ kind: 'restore_failed', job, generation, path, reason: reasonOf(failure), damaged });
    });
  }

  async #restoreInto(image: ImageFile, command: Command<'restore'>, signal: AbortSignal): Promise<CheckpointEvent> {
    const { job, generation, path, manifestSha256, part, parts } = command;
    const { storage, name } = openCheckpoint(path, this.surroundings.storage, signal);
    let bytes = 0;
    const progress = setInterval(
      () => this.surroundings.emit({ kind: 'restore_progressed', job, generation, bytes }),
      PROGRESS_INTERVAL_MS,
    );
    const onBytes = (count: number): void => {
      bytes += count;
    };
    try {
      const restored = await restorePart(storage, image, { name, manifestSha256, part, parts }, { signal, onBytes });
      return { kind: 'part_restored', job, generation, ...restored };
    } finally {
      clearInterval(progress);
    }
  }
}

function saveKey(save: string): string {
  return `save ${save}`;
}

function restoreKey(job: string): string {
  return `restore ${job}`;
}

function draftOf({ committed, save }: SaveName): Draft {
  return { step: committed, save };
}

/** The descriptor is closed, whatever happens, and before anybody hears of it. */
async function withImage<T>(fd: number, act: (image: ImageFile) => Promise<T>): Promise<T> {
  const image = new ImageFile(fd);
  try {
    return await act(image);
  } finally {
    image.close();
  }
}

/** Undefined when the act did not fail, or was stopped. A broken invariant ends the thread. */
async function failureOf(signal: AbortSignal, act: () => Promise<void>): Promise<Error | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    if (error instanceof AssertionError) {
      queueMicrotask(() => {
        throw error;
      });
    }
    if (signal.aborted) return undefined;
    return error instanceof Error ? error : new Error(String(error));
  }
}

function reasonOf(failure: Error): string {
  return oneLine(failure.message);
}
