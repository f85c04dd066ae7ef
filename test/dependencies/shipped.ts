/** What ships with Lockstep, from the lock file: every package of the production tree and those that are built into the page. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

const BEGIN = '<!-- begin: npm run docs:dependencies -->';
const END = '<!-- end -->';
/** Development dependencies of which esbuild puts the code into dist/dashboard. */
const IN_THE_PAGE = ['preact', 'uplot'];

const lockedPackage = z.looseObject({
  version: z.string().optional(),
  license: z.string().optional(),
  resolved: z.string().optional(),
  dev: z.boolean().optional(),
  devOptional: z.boolean().optional(),
});
const lockFile = z.looseObject({ packages: z.record(z.string(), lockedPackage) });
const packageFile = z.looseObject({
  dependencies: z.record(z.string(), z.string()),
  devDependencies: z.record(z.string(), z.string()),
});

export type LockedPackage = z.output<typeof lockedPackage>;

export function lockedPackages(repository: string): Readonly<Record<string, LockedPackage>> {
  return lockFile.parse(JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8'))).packages;
}

/** Name to version range, of both kinds. */
export function directDependencies(repository: string): Readonly<Record<string, string>> {
  const file = packageFile.parse(JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')));
  return { ...file.dependencies, ...file.devDependencies };
}

/** Where its packages lie: "node_modules/ws". */
export function shippedPaths(packages: Readonly<Record<string, LockedPackage>>): readonly string[] {
  return Object.entries(packages).flatMap(([path, { dev, devOptional }]) => {
    const ships = (dev !== true && devOptional !== true) || IN_THE_PAGE.includes(nameAt(path));
    return path === '' || !ships ? [] : [path];
  });
}

function nameAt(path: string): string {
  return path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
}

function tableOf(packages: Readonly<Record<string, LockedPackage>>): string {
  const rows = shippedPaths(packages).map((path) => {
    const { version = '', license = 'unknown' } = packages[path] ?? {};
    return `| ${nameAt(path)} | ${version} | ${license} |`;
  });
  const sorted = [...new Set(rows)].sort();
  return [`${sorted.length} packages.`, '', '| package | version | licence |', '|---|---|---|', ...sorted].join('\n');
}

/** The document with its table as the lock file has it now. */
export function withShipped(document: string, packages: Readonly<Record<string, LockedPackage>>): string {
  const [before, rest] = document.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`the document has no ${BEGIN} and ${END}`);
  return `${before}${BEGIN}\n\n${tableOf(packages)}\n\n${END}${after}`;
}
