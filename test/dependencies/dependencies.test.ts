import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { repository } from '../system/run_lockstep.js';
import { directDependencies, lockedPackages, withShipped } from './shipped.js';

const document = readFileSync(join(repository, 'docs/dependencies.md'), 'utf8');
const packages = lockedPackages(repository);
const direct = Object.entries(directDependencies(repository));

it('the lock file records no download addresses', () => {
  expect(Object.entries(packages).filter(([, { resolved }]) => resolved !== undefined)).toEqual([]);
});

it.each(direct)('%s (%s) has one exact version, and a reason in docs/dependencies.md', (name, range) => {
  expect(range).toMatch(/^\d+\.\d+\.\d+$/);
  const rows = document.split('\n').filter((line) => line.startsWith(`| \`${name}\` |`));
  expect(rows).toHaveLength(1);
  const [, , use = '', reason = ''] = rows[0]?.split('|') ?? [];
  expect(use.trim().length).toBeGreaterThan(3);
  expect(reason.trim().length).toBeGreaterThan(10);
});

it('nothing has a reason there that is not used', () => {
  const named = [...document.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name);
  expect(named.filter((name) => !direct.some(([one]) => one === name))).toEqual([]);
});

it('what ships is listed as it is; if not: npm run docs:dependencies', () => {
  expect(withShipped(document, packages)).toBe(document);
});

it('everything that ships has a licence that lets it', () => {
  const licences = Object.values(packages).flatMap(({ license, dev }) => (dev === true ? [] : (license ?? 'unknown')));
  const known = ['Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT'];
  expect(licences.filter((one) => !known.includes(one))).toEqual([]);
});
