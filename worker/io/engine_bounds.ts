/** What keeps the user's code where it belongs: a user, a control group and a folder for temporary files of its own. See docs/user_code.md. */
import { join } from 'node:path';
import type { ControlGroups, EngineGroup } from './control_groups.js';
import type { EngineLaunch } from './engine_launch.js';
import type { ScratchFolders } from './scratch_folders.js';

const LOOK_MS = 10_000;

export interface EngineBoundsOptions {
  readonly launch: EngineLaunch;
  readonly scratch: ScratchFolders;
  /** Undefined where no control group was handed over to this daemon. */
  readonly groups: ControlGroups | undefined;
}

/** Of one engine. */
export interface EnginePlace {
  readonly launch: EngineLaunch;
  readonly scratch: string;
  readonly group: EngineGroup | undefined;
  /** Where it writes the model, if the folder that users are told is closed to it. */
  readonly modelFolder: string | undefined;
}

export class EngineBounds {
  readonly #options: EngineBoundsOptions;
  readonly #places = new Map<number, EnginePlace>();

  constructor(options: EngineBoundsOptions) {
    this.#options = options;
  }

  /** Of the engine of this number. Throws when it cannot be made. */
  enter(start: number): EnginePlace {
    const { launch, scratch, groups } = this.#options;
    const folder = scratch.create(start);
    const modelFolder = launch.user === undefined ? undefined : join(folder, 'model');
    const place = { launch, scratch: folder, group: groups?.create(start), modelFolder };
    this.#places.set(start, place);
    return place;
  }

  placeOf(start: number): EnginePlace | undefined {
    return this.#places.get(start);
  }

  /** Says when the engine uses more than it may. Returns what ends the watch. */
  watch(start: number, onExcess: (reason: string) => void): () => void {
    let looking = false;
    const look = async (): Promise<void> => {
      if (looking) return;
      looking = true;
      const reason = await this.#options.scratch.excess(start);
      looking = false;
      if (reason !== undefined) onExcess(reason);
    };
    const timer = setInterval(() => void look(), LOOK_MS);
    return () => clearInterval(timer);
  }

  /** The engine of this number is gone. */
  async leave(start: number): Promise<void> {
    const group = this.#places.get(start)?.group;
    this.#places.delete(start);
    await Promise.all([group?.remove(), this.#options.scratch.remove(start)]);
  }

  /** All engines are gone, and none will come. */
  async close(): Promise<void> {
    await this.#options.scratch.close();
  }
}
