import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ChangedFiles } from '../../shared/changed_files.js';

let folder = '';
let path = '';
let heard: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-changed-'));
  path = join(folder, 'file');
  heard = [];
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const files = () =>
  new ChangedFiles({
    paths: [path],
    read: () => {
      const text = readFileSync(path, 'utf8');
      if (text.startsWith('bad')) throw new Error(text);
      return text;
    },
    onRead: (text) => heard.push(text),
    onRefused: (reason) => heard.push(`refused: ${reason.slice(0, 6)}`),
  });

it('reads what has changed, once', async () => {
  writeFileSync(path, 'one');
  const changed = files();
  await changed.look();
  expect(heard).toEqual([]);
  writeFileSync(path, 'three');
  await changed.look();
  await changed.look();
  expect(heard).toEqual(['three']);
});

it('says once what is wrong, and looks until it is right', async () => {
  writeFileSync(path, 'one');
  const changed = files();
  for (const text of ['bad 1', 'bad 1 again', 'bad 22', 'three']) {
    writeFileSync(path, text);
    await changed.look();
  }
  rmSync(path);
  await changed.look();
  await changed.look();
  expect(heard).toEqual(['refused: bad 1', 'refused: bad 1 ', 'refused: bad 22', 'three', 'refused: ENOENT']);
});

it('has one look at a time', async () => {
  writeFileSync(path, 'one');
  const changed = files();
  writeFileSync(path, 'three');
  await Promise.all([changed.look(), changed.look()]);
  expect(heard).toEqual(['three']);
});
