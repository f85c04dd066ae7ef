/** The sources compiled to a folder of their own: what is tested is what is in the work tree, and mutants get a copy to be changed. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Mutant } from './mutants.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
/** What the simulator's threads load. */
const PARTS = ['coordinator/core', 'worker/core', 'worker/collective', 'shared', 'test/simulator'];

/** Compiles everything into `folder`. */
export async function build(folder: string): Promise<void> {
  const compiler = join(repository, 'node_modules/.bin/tsc');
  await promisify(execFile)(compiler, ['-p', join(repository, 'tsconfig.json'), '--outDir', folder, '--noCheck']);
  makePackage(folder);
}

/** The sources import a few packages. */
function makePackage(folder: string): void {
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  symlinkSync(join(repository, 'node_modules'), join(folder, 'node_modules'));
}

/** How often the text of a mutant is in what `build` made: once, unless the cores have changed there. */
export function countOf(built: string, { file, find }: Mutant): number {
  return readFileSync(join(built, file), 'utf8').split(find).length - 1;
}

/** A copy of what `build` made with one change. */
export function buildMutant(built: string, folder: string, { file, find, replace }: Mutant): void {
  for (const part of PARTS) {
    mkdirSync(join(folder, part), { recursive: true });
    cpSync(join(built, part), join(folder, part), { recursive: true, filter: (path) => !path.endsWith('.map') });
  }
  makePackage(folder);
  const path = join(folder, file);
  writeFileSync(
    path,
    readFileSync(path, 'utf8').replace(find, () => replace),
  );
}
