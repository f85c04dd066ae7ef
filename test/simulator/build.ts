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

/** A copy of what `build` made with one change. A text that is not there exactly once fails. */
export function buildMutant(built: string, folder: string, { name, file, find, replace }: Mutant): void {
  for (const part of PARTS) {
    mkdirSync(join(folder, part), { recursive: true });
    cpSync(join(built, part), join(folder, part), { recursive: true, filter: (path) => !path.endsWith('.map') });
  }
  makePackage(folder);
  const path = join(folder, file);
  const source = readFileSync(path, 'utf8');
  const count = source.split(find).length - 1;
  if (count !== 1) throw new Error(`mutant "${name}": its text is ${count} times in ${file}, not once:\n${find}`);
  writeFileSync(
    path,
    source.replace(find, () => replace),
  );
}
