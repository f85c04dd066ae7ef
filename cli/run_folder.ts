/** Where a run leaves its files when nobody says: runs/<name>-<time> under the current folder. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const MAX_IN_ONE_SECOND = 1000;

/** Makes the folder, so that it is nobody else's. `time` is written as 20261123-142900, in the local time zone. */
export function newRunFolder(name: string, time: Date, parent = resolve('runs')): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${time.getFullYear()}${two(time.getMonth() + 1)}${two(time.getDate())}`;
  const folder = join(
    parent,
    `${name}-${day}-${two(time.getHours())}${two(time.getMinutes())}${two(time.getSeconds())}`,
  );
  makeUnsentFolder(parent);
  for (let count = 1; count <= MAX_IN_ONE_SECOND; count++) {
    const candidate = count === 1 ? folder : `${folder}-${count}`;
    if (madeHere(candidate)) return candidate;
  }
  throw new Error(`${folder} and ${MAX_IN_ONE_SECOND} like it are taken`);
}

/** A folder that, wherever it lies, neither git nor the packing of a job's code takes along. One that is there already stays as it is. */
export function makeUnsentFolder(folder: string): void {
  if (mkdirSync(folder, { recursive: true }) !== undefined) writeFileSync(join(folder, '.gitignore'), '*\n');
}

function madeHere(folder: string): boolean {
  try {
    mkdirSync(folder);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}
