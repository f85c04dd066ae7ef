/** The checkpoints of a folder. */
import { stepOfCheckpoint } from './names.js';
import { openStorage, type StorageOptions } from './open_storage.js';

export interface ListedCheckpoint {
  readonly path: string;
  /** Steps that its state has committed. */
  readonly step: number;
}

/** Newest first. They are named like checkpoints; whether they are whole only `verifyCheckpoint` can tell. */
export async function listCheckpoints(
  folder: string,
  options: StorageOptions = {},
): Promise<readonly ListedCheckpoint[]> {
  const storage = openStorage(folder, options);
  const names = await storage.list();
  return names
    .flatMap((name) => {
      const step = stepOfCheckpoint(name);
      return step === undefined ? [] : [{ path: storage.pathOf(name), step }];
    })
    .sort((a, b) => b.step - a.step);
}
