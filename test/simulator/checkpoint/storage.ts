/**
 * The simulated storage of checkpoints, after shared/checkpoint/directory.ts: one for the whole world, and it survives everything. Drafts
 * and checkpoints are folders; a draft becomes a checkpoint by one rename, which is refused when the name is taken.
 */
import type { ShardFacts } from '../../../shared/checkpoint/manifest.js';
import { digestOf, hashText, mix } from '../hashing.js';
import type { Random } from '../random.js';
import type { World } from '../world.js';
import { HEADER, Image, runsOf, type StateContent } from './image.js';

export interface StoredShard {
  readonly facts: ShardFacts;
  readonly content: StateContent;
  /** Its bytes have changed since they were written. */
  rotten: boolean;
}

export interface Manifest {
  readonly sha256: string;
  readonly stateSha256: string;
  readonly createdMs: number;
  readonly shards: readonly ShardFacts[];
  /** All files together. */
  readonly bytes: number;
}

export class Folder {
  readonly shards = new Map<string, StoredShard>();
  manifest: Manifest | undefined;

  /** Every one of these files is there and as long as it says. */
  hasFiles(files: readonly ShardFacts[]): boolean {
    return files.every(({ file, bytes }) => this.shards.get(file)?.facts.bytes === bytes);
  }

  /** What is wrong with one file, or undefined. */
  problemWith({ file, sha256 }: ShardFacts): string | undefined {
    const shard = this.shards.get(file);
    if (shard === undefined) return `${file} is missing`;
    return shard.rotten || shard.facts.sha256 !== sha256 ? `${file} has another sha256` : undefined;
  }

  /** What is wrong with the whole, or undefined: each shard is what the manifest says, and so is the state that they make up. */
  get problem(): string | undefined {
    const { manifest } = this;
    if (manifest === undefined) return 'manifest.json is missing';
    for (const facts of manifest.shards) {
      const problem = this.problemWith(facts);
      if (problem !== undefined) return problem;
    }
    return this.image.sha256 === manifest.stateSha256 ? undefined : 'manifest.json says that it is another state';
  }

  /** The image that the shards of the manifest make up, whatever became of their bytes. */
  get image(): Image {
    return this.imageOf(this.manifest?.shards ?? []);
  }

  imageOf(shards: readonly ShardFacts[]): Image {
    const image = new Image();
    const runs = runsOf(shards.length);
    for (const { shard, file } of shards) {
      const run = runs[shard];
      const content = this.shards.get(file)?.content;
      if (run !== undefined) image.write(run, content);
      // The header is the same in all of them; the publisher writes it into the manifest.
      if (shard === 0) image.write(HEADER, content);
    }
    return image;
  }

  rot(random: Random): void {
    if (this.shards.size > 0) random.pick([...this.shards.values()]).rotten = true;
  }
}

export function shardFacts(shard: number, shards: number, content: StateContent): ShardFacts {
  const file = `shard-${shard}-of-${shards}`;
  const { length } = runsOf(shards)[shard] ?? HEADER;
  return { shard, file, bytes: HEADER.length + length, sha256: digestOf(mix(hashText(file), content.weights)) };
}

export class Storage {
  readonly #drafts = new Map<string, Folder>();
  readonly #published = new Map<string, Folder>();
  /** It can be reached. */
  reachable = true;
  /** How likely an operation of a save fails, by a full disk for example. */
  failures = 0;
  /** Factor on everything that it does. */
  slowness = 1;

  constructor(private readonly world: World) {}

  get paths(): readonly string[] {
    return [...this.#published.keys()];
  }

  at(path: string): Folder | undefined {
    return this.#published.get(path);
  }

  draft(name: string): Folder | undefined {
    return this.#drafts.get(name);
  }

  makeDraft(name: string): Folder {
    const draft = this.#drafts.get(name) ?? new Folder();
    this.#drafts.set(name, draft);
    return draft;
  }

  discard(name: string): void {
    this.#drafts.delete(name);
  }

  /** False if there is no such draft, or the name is taken. */
  rename(draft: string, path: string): boolean {
    const folder = this.#drafts.get(draft);
    if (folder === undefined || this.#published.has(path)) return false;
    this.#drafts.delete(draft);
    this.#published.set(path, folder);
    this.world.oracle.checkpoints.named(path, folder);
    this.world.note('storage', 'published');
    this.world.say('store', `${draft} is now ${path}`);
    return true;
  }

  /** Takes a checkpoint away from under its name; undefined if there is none. */
  takeAway(path: string, why: 'removed' | 'replaced' | 'undone'): Folder | undefined {
    const folder = this.#published.get(path);
    if (folder === undefined) return undefined;
    this.#published.delete(path);
    this.world.note('storage', why);
    this.world.say('store', `${path} is ${why}`);
    this.world.oracle.checkpoints.vanished(path, folder, why);
    return folder;
  }

  /** False if the name is taken. */
  putBack(path: string, folder: Folder): boolean {
    if (this.#published.has(path)) return false;
    this.#published.set(path, folder);
    return true;
  }

  /** A fault: a file changes, or the whole folder is gone. */
  spoil(path: string, random: Random): void {
    const folder = this.#published.get(path);
    if (folder === undefined) return;
    this.world.oracle.checkpoints.spoilt(path, folder);
    if (random.chance(0.2)) this.#published.delete(path);
    else folder.rot(random);
  }

  /** Milliseconds that something takes which takes `usualMs`. */
  takesMs(usualMs: number): number {
    const { random } = this.world;
    return (
      usualMs *
      this.world.scenario.storageScale *
      this.slowness *
      (random.chance(0.05) ? random.between(2, 10) : random.between(0.5, 1.5))
    );
  }
}
