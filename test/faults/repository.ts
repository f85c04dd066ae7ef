/** The folder of the repository, from the source as well as from dist/. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

function findRepository(): string {
  for (const up of ['../..', '../../..']) {
    const folder = fileURLToPath(new URL(up, import.meta.url));
    if (existsSync(`${folder}/bin/lockstep`)) return folder;
  }
  throw new Error('bin/lockstep is nowhere above this file');
}

export const repository = findRepository();
