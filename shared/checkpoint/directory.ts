/**
 * Checkpoints in a folder. A draft is a folder with a name of its own; it becomes a checkpoint by one rename, and stops being one by
 * another. All that stands between the two is in these names:
 *
 *     step-000000123                a checkpoint
 *     .saving-000000123-<save>      a draft, and, with .<random> behind it, a file that is being written for it
 *     .replaced-000000123-<random>  what was the checkpoint of a step until another one took its place
 *     .removing-000000123-<random>  what is being deleted
 */
import { randomBytes } from 'node:crypto';
import { DirectoryPublication } from './directory_publication.js';
import { DamagedCheckpoint, MissingCheckpoint, StorageFailure } from './errors.js';
import type { FileOperations } from './file_operations.js';
import { deleteFile, deleteFolder, makeFolder, renamed, statusOf, syncFolder, unless } from './folder_files.js';
import { openReader } from './folder_reader.js';
import { FolderFileWriter } from './folder_writer.js';
import { checkpointName, isSaveId, MANIFEST_FILE, paddedStep, shardFile, stepOfCheckpoint } from './names.js';
import type { Draft, FileReader, FileWriter, NewManifest, Storage } from './storage.js';
import type { VerifiedCheckpoint } from './verify.js';

const LEFT_OVER_MS = 3_600_000;
const LEFT_OVER = /^\.(saving|replaced|removing)-(\d{9,15})-([A-Za-z0-9-]+)(\.[0-9a-f]+)?$/;

export class Directory implements Storage {
  constructor(
    private readonly folder: string,
    private readonly files: FileOperations,
    private readonly nowMs: () => number = Date.now,
  ) {}

  pathOf(name: string): string {
    return `${this.folder}/${name}`;
  }

  async list(): Promise<readonly string[]> {
    const names = await unless(['ENOENT'], `list ${this.folder}`, this.files.readdir(this.folder));
    const checkpoints: string[] = [];
    for (const name of names ?? []) {
      if (stepOfCheckpoint(name) === undefined) continue;
      if ((await statusOf(this.files, this.pathOf(name)))?.kind === 'folder') checkpoints.push(name);
    }
    return checkpoints;
  }

  shardFile(_draft: Draft, shard: number, shards: number): string {
    return shardFile(shard, shards);
  }

  async createShard(draft: Draft, file: string): Promise<FileWriter> {
    const path = this.#draftPath(draft);
    await makeFolder(this.files, this.folder);
    await unless(['EEXIST'], `make the folder ${path}`, this.files.mkdir(path));
    return FolderFileWriter.create(this.files, this.#temporaryPath(draft), `${path}/${file}`);
  }

  async publish(
    draft: Draft,
    manifest: NewManifest,
    verify: () => Promise<VerifiedCheckpoint>,
  ): Promise<VerifiedCheckpoint> {
    const path = this.#draftPath(draft);
    const publication = new DirectoryPublication(
      this.files,
      {
        folder: this.folder,
        draft: path,
        final: this.pathOf(checkpointName(draft.step)),
        newAside: (kind) => this.#asidePath(kind, draft.step),
      },
      manifest,
      verify,
    );
    if (await publication.isDraftComplete()) await this.#writeManifest(draft, manifest.text, publication);
    const published = await publication.run();
    await this.discard(draft).catch(() => undefined);
    return published;
  }

  openDraftFile(draft: Draft, file: string): Promise<FileReader | undefined> {
    return openReader(this.files, `${this.#draftPath(draft)}/${file}`);
  }

  async discard(draft: Draft): Promise<void> {
    await this.#deleteByName(this.#draftPath(draft), draft.step);
    const names = await unless(['ENOENT'], `list ${this.folder}`, this.files.readdir(this.folder));
    const prefix = `${this.#draftName(draft)}.`;
    for (const name of names ?? []) if (name.startsWith(prefix)) await deleteFile(this.files, this.pathOf(name));
  }

  async openFile(name: string, file: string): Promise<FileReader> {
    const path = `${this.pathOf(name)}/${file}`;
    const reader = await openReader(this.files, path);
    if (reader !== undefined) return reader;
    // A disk that is not mounted says nothing about the checkpoints on it.
    if ((await statusOf(this.files, this.folder)) === undefined) {
      throw new StorageFailure(`cannot read ${path}: the folder ${this.folder} is not there; is its disk mounted?`);
    }
    throw file === MANIFEST_FILE ? new MissingCheckpoint(path) : new DamagedCheckpoint(path, 'is missing');
  }

  async remove(name: string): Promise<void> {
    const step = stepOfCheckpoint(name);
    const path = this.pathOf(name);
    if (step === undefined) throw new StorageFailure(`cannot remove ${path}: a checkpoint is called step-<9 digits>`);
    const status = await statusOf(this.files, path);
    if (status === undefined) return;
    if (status.kind !== 'folder') throw new StorageFailure(`cannot remove ${path}: it is not a folder`);
    await this.#deleteByName(path, step);
  }

  async tidy(draft: Draft): Promise<void> {
    const names = await this.files.readdir(this.folder).catch(() => []);
    for (const name of names) {
      // Left-overs are no failure of this save; what cannot be removed now is met again at the next one.
      await this.#tidyOne(name, draft).catch(() => undefined);
    }
  }

  async #tidyOne(name: string, draft: Draft): Promise<void> {
    const [, kind, digits, id] = LEFT_OVER.exec(name) ?? [];
    const own = this.#draftName(draft);
    if (kind === undefined || id === undefined || name === own || name.startsWith(`${own}.`)) return;
    const path = this.pathOf(name);
    const status = await statusOf(this.files, path);
    if (status === undefined || this.nowMs() - status.changedMs < LEFT_OVER_MS) return;
    const step = Number(digits);
    if (kind === 'saving' && status.kind === 'file') await deleteFile(this.files, path);
    if (status.kind !== 'folder') return;
    // Whoever replaced it died before its own was in place.
    if (kind === 'replaced' && (await renamed(this.files, path, this.pathOf(checkpointName(step))))) return;
    await this.#deleteByName(path, step);
  }

  /** The rename comes first and is made durable first: half of what it deletes is never found under the old name. */
  async #deleteByName(path: string, step: number): Promise<void> {
    const aside = this.#asidePath('removing', step);
    if (!(await renamed(this.files, path, aside))) return;
    await syncFolder(this.files, this.folder);
    await deleteFolder(this.files, aside);
  }

  async #writeManifest(draft: Draft, text: Buffer, publication: DirectoryPublication): Promise<void> {
    const final = `${this.#draftPath(draft)}/${MANIFEST_FILE}`;
    const writer = await FolderFileWriter.create(this.files, this.#temporaryPath(draft), final);
    try {
      await writer.write(text);
      await writer.finish();
    } catch (error) {
      await writer.abandon();
      // Where another publisher has just taken the draft, there is nothing to write a manifest for.
      if (await publication.isDraftComplete()) throw error;
    }
  }

  #draftName({ step, save }: Draft): string {
    if (!isSaveId(save)) throw new StorageFailure(`${JSON.stringify(save)} cannot be the id of a save`);
    return `.saving-${paddedStep(step)}-${save}`;
  }

  #draftPath(draft: Draft): string {
    return this.pathOf(this.#draftName(draft));
  }

  #temporaryPath(draft: Draft): string {
    return `${this.#draftPath(draft)}.${randomBytes(6).toString('hex')}`;
  }

  #asidePath(kind: 'replaced' | 'removing', step: number): string {
    return this.pathOf(`.${kind}-${paddedStep(step)}-${randomBytes(6).toString('hex')}`);
  }
}
