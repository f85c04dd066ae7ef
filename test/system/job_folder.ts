/** Job files that tests write for themselves, each in a folder with the code of its task. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { repository } from './run_lockstep.js';

/** The code of tests' own tasks. */
const tasks = fileURLToPath(new URL('tasks', import.meta.url));

/** Copies task files into `folder` and returns the function that writes job files beside them. */
export function jobFolder(
  folder: string,
  files: readonly string[],
): (spec: Readonly<Record<string, unknown>>) => string {
  mkdirSync(folder, { recursive: true });
  for (const file of files) copyFileSync(file, join(folder, file.slice(file.lastIndexOf('/') + 1)));
  return (spec) => {
    const path = join(folder, `${String(spec['name'])}.yaml`);
    writeFileSync(path, stringify({ version: 1, ...spec }));
    return path;
  };
}

export const ownTask = (name: string): string => join(tasks, `${name}.py`);
export const exampleTask = (name: string): string => join(repository, 'examples', name, 'task.py');
