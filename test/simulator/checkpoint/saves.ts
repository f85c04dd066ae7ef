/** The part of a checkpoint thread that saves: writes shards, publishes, abandons. */
import type { ShardFacts } from '../../../shared/checkpoint/manifest.js';
import type { CheckpointEvent, SaveName } from '../../../worker/checkpoint/checkpoints.js';
import type { CoreCheckpointCommand } from '../../../worker/core/command.js';
import { digestOf, hashText, mix } from '../hashing.js';
import type { WorkerHost } from '../worker_host.js';
import { type SnapshotMemory, stateDigest } from './image.js';
import { Publication, type Published } from './publication.js';
import { type Manifest, type Storage, shardFacts } from './storage.js';

type CommandOf<K extends CoreCheckpointCommand['kind']> = Extract<CoreCheckpointCommand, { readonly kind: K }>;
export type SaveCommand = CommandOf<'write_shard' | 'publish'>;

interface Act {
  readonly command: SaveCommand;
  /** What it reads the image from. */
  readonly memory: SnapshotMemory;
  /** It has begun to make the checkpoint visible, and brings that to an end. */
  finishes: boolean;
  stopped: boolean;
}

function draftOf({ folder, committed, save }: SaveName): string {
  return `${folder}/.saving-${committed}-${save}`;
}

function pathOf({ folder, committed }: SaveName): string {
  return `${folder}/step-${committed}`;
}

function manifestOf({ shards, description }: CommandOf<'publish'>, stateSha256: string): Manifest {
  const text = `${stateSha256} ${JSON.stringify(description)} ${shards.map(({ sha256 }) => sha256).join()}`;
  const bytes = shards.reduce((sum: number, shard: ShardFacts) => sum + shard.bytes, 1);
  return { sha256: digestOf(mix(hashText(text), 1)), stateSha256, createdMs: description.createdMs, shards, bytes };
}

export class Saves {
  readonly #acts = new Set<Act>();
  /** Saves that are abandoned, with an act that brings itself to an end. */
  readonly #abandoned = new Map<string, SaveName>();

  constructor(
    private readonly host: WorkerHost,
    private readonly emit: (event: CheckpointEvent) => void,
  ) {}

  get #storage(): Storage {
    return this.host.world.storage;
  }

  /** What is being saved from this memory. */
  readersOf(memory: SnapshotMemory): readonly SaveCommand[] {
    return [...this.#acts].flatMap((act) => (act.memory === memory ? [act.command] : []));
  }

  get underWay(): number {
    return this.#acts.size;
  }

  #begin(command: SaveCommand, memory: SnapshotMemory): Act {
    const act: Act = { command, memory, finishes: false, stopped: false };
    this.#acts.add(act);
    return act;
  }

  /** Goes on after a while, unless the act is stopped by then. */
  #later(act: Act, usualMs: number, next: () => void): void {
    this.host.later(this.#storage.takesMs(usualMs), () => {
      if (!act.stopped || act.finishes) next();
    });
  }

  #end(act: Act, failure: string | undefined): void {
    const { job, save } = act.command;
    this.#acts.delete(act);
    if (failure !== undefined && !act.stopped) this.emit({ kind: 'save_failed', job, save, reason: failure });
    const abandoned = this.#abandoned.get(save);
    if (abandoned !== undefined) this.#discardIfEnded(abandoned);
  }

  /** Why the storage refuses an operation now, if it does. */
  #refusal(): string | undefined {
    const { reachable, failures } = this.#storage;
    if (!reachable) return 'the storage cannot be reached';
    return failures > 0 && this.host.world.random.chance(failures) ? 'no space is left on the device' : undefined;
  }

  writeShard(command: CommandOf<'write_shard'>, memory: SnapshotMemory): void {
    const { job, save, shard, shards } = command;
    const { oracle } = this.host.world;
    const act = this.#begin(command, memory);
    const read = memory.read();
    this.#later(act, 3, () => {
      this.#storage.makeDraft(draftOf(command));
      this.#later(act, 25, () => {
        const draft = this.#storage.draft(draftOf(command));
        const refusal = draft === undefined ? 'the draft is gone' : this.#refusal();
        if (draft !== undefined && refusal === undefined) {
          const content = read();
          const facts = shardFacts(shard, shards, content);
          draft.shards.set(facts.file, { facts, content, rotten: false });
          oracle.checkpoints.shardWritten(save, facts);
          this.emit({ kind: 'shard_written', job, save, facts });
          this.host.world.onMoment('shard_written', this.host.name);
        }
        this.#end(act, refusal);
      });
    });
  }

  /** It can be stopped until the draft is to be given its name. */
  publish(command: CommandOf<'publish'>, memory: SnapshotMemory): void {
    const act = this.#begin(command, memory);
    const read = memory.read();
    this.#later(act, 10, () => {
      const readBack = this.#readBack(command);
      act.finishes = true;
      new Publication({
        storage: this.#storage,
        draft: draftOf(command),
        path: pathOf(command),
        manifest: manifestOf(command, readBack ?? stateDigest(read())),
        isRead: readBack !== undefined,
        later: (usualMs, next) => this.#later(act, usualMs, next),
        done: (outcome) => this.#publicationEnded(act, outcome),
      }).run();
    });
  }

  /** Digest of the image that the shards of the draft make up; undefined if they are not those that were reported. */
  #readBack(command: CommandOf<'publish'>): string | undefined {
    const draft = this.#storage.draft(draftOf(command));
    const { shards } = command;
    if (draft === undefined || shards.some((facts) => draft.problemWith(facts) !== undefined)) return undefined;
    return draft.imageOf(shards).sha256;
  }

  #publicationEnded(act: Act, outcome: Published): void {
    const { job, save } = act.command;
    if (outcome.kind === 'published') {
      const path = pathOf(act.command);
      const { sha256, stateSha256, bytes } = outcome.manifest;
      this.emit({ kind: 'published', job, save, path, manifestSha256: sha256, stateSha256, bytes });
      this.host.world.onMoment('published', this.host.name);
    }
    this.#end(act, outcome.kind === 'failed' ? outcome.reason : undefined);
  }

  abandon(name: CommandOf<'abandon_save'>): void {
    for (const act of this.#acts) {
      if (act.command.save !== name.save) continue;
      act.stopped = true;
      if (!act.finishes) this.#acts.delete(act);
    }
    this.#abandoned.set(name.save, name);
    this.host.later(this.#storage.takesMs(2), () => this.#discardIfEnded(name));
  }

  #discardIfEnded(name: SaveName): void {
    if ([...this.#acts].some(({ command }) => command.save === name.save)) return;
    this.#abandoned.delete(name.save);
    if (this.#storage.reachable) this.#storage.discard(draftOf(name));
  }
}
