/** The part of a checkpoint thread that restores: reads a part of a checkpoint into an engine's state memory. */
import type { ByteRange, CheckpointEvent } from '../../../worker/checkpoint/checkpoints.js';
import type { CoreCheckpointCommand } from '../../../worker/core/command.js';
import type { WorkerHost } from '../worker_host.js';
import { HEADER, IMAGE_BYTES, type Image, joined, runsOf } from './image.js';
import type { Folder } from './storage.js';

type Restore = Extract<CoreCheckpointCommand, { readonly kind: 'restore' }>;

const PROGRESS_INTERVAL_MS = 500;

/** One for each job at most; a newer one ends the one before. */
export class Restores {
  readonly #running = new Map<string, { stopped: boolean }>();

  constructor(
    private readonly host: WorkerHost,
    private readonly emit: (event: CheckpointEvent) => void,
  ) {}

  stop(job: string): void {
    const act = this.#running.get(job);
    if (act !== undefined) act.stopped = true;
    this.#running.delete(job);
  }

  begin(command: Restore, memory: Image): void {
    const { job } = command;
    const { storage } = this.host.world;
    this.stop(job);
    const act = { stopped: false };
    this.#running.set(job, act);
    this.#sayProgress(act, command, 0);
    this.host.world.onMoment('restore_begun', this.host.name);
    this.host.later(storage.takesMs(40), () => {
      if (act.stopped) return;
      this.stop(job);
      this.emit(this.#read(command, memory));
      this.host.world.onMoment('part_restored', this.host.name);
    });
  }

  #sayProgress(act: { readonly stopped: boolean }, command: Restore, bytes: number): void {
    const { job, generation } = command;
    this.host.later(PROGRESS_INTERVAL_MS, () => {
      if (act.stopped) return;
      this.emit({ kind: 'restore_progressed', job, generation, bytes: bytes + 1 });
      this.#sayProgress(act, command, bytes + 1);
    });
  }

  #read(command: Restore, memory: Image): CheckpointEvent {
    const { job, generation, path, manifestSha256, part, parts } = command;
    const failed = (problem: string, damaged: boolean): CheckpointEvent => {
      return { kind: 'restore_failed', job, generation, path, reason: `${path} ${problem}`, damaged };
    };
    const { storage } = this.host.world;
    if (!storage.reachable) return failed('cannot be read: the storage cannot be reached', false);
    const folder = storage.at(path);
    const manifest = folder?.manifest;
    if (folder === undefined || manifest === undefined) return failed('is missing: there is no checkpoint', true);
    if (manifest.sha256 !== manifestSha256) return failed('has another manifest than the one that was recorded', true);
    const problem = problemOfPart(folder, part, parts);
    if (problem !== undefined) return failed(problem, true);
    const runs = runsOf(manifest.shards.length);
    const isOwn = (_: ByteRange, shard: number): boolean => shard % parts === part;
    const own = [HEADER, ...runs.filter(isOwn)];
    for (const range of own) memory.copy(range, folder.image);
    return {
      kind: 'part_restored',
      job,
      generation,
      bytes: IMAGE_BYTES,
      sha256: manifest.stateSha256,
      own: joined(own),
      missing: runs.filter((run, shard) => !isOwn(run, shard) && run.length > 0),
    };
  }
}

/** What is wrong with a part of a checkpoint. Only who reads everything can tell whether it is the state that the manifest says. */
function problemOfPart(folder: Folder, part: number, parts: number): string | undefined {
  if (parts === 1) return folder.problem;
  for (const facts of folder.manifest?.shards ?? []) {
    const problem = facts.shard % parts === part ? folder.problemWith(facts) : undefined;
    if (problem !== undefined) return problem;
  }
  return undefined;
}
