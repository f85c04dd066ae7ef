import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BundleError } from '../../../shared/bundle/bundle_error.js';
import { archiveOf } from '../../../shared/bundle/pack.js';
import { CodeFolders } from '../../../worker/io/code_folders.js';
import { ensureBuilt, repository } from '../built_threads.js';

let parent = '';
let root = '';
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'lockstep-code-'));
  root = join(parent, 'code');
});
afterEach(() => rmSync(parent, { recursive: true }));

const archive = () => archiveOf([{ name: 'task.py', content: Buffer.from('x'), executable: false }]);
const modeOf = (path: string): number => statSync(path).mode & 0o777;

it('each engine has a private folder of its own, and it goes with the engine', async () => {
  const folders = new CodeFolders(root);
  const [one, two] = [await folders.create(1, await archive()), await folders.create(2, await archive())];
  expect(one).not.toBe(two);
  expect([modeOf(root), modeOf(one), modeOf(join(one, 'task.py'))]).toEqual([0o700, 0o700, 0o600]);
  await folders.remove(1);
  expect([existsSync(one), existsSync(two)]).toEqual([false, true]);
  await folders.remove(1);
  folders.close();
  expect(existsSync(root)).toBe(false);
});

it('what an earlier daemon left is removed at the start, and nothing else', async () => {
  await new CodeFolders(root).create(7, await archive());
  mkdirSync(join(root, 'unpacking-abc'));
  writeFileSync(join(root, 'mine.txt'), '');
  const folders = new CodeFolders(root);
  expect(readdirSync(root)).toEqual(['mine.txt']);
  folders.close();
  expect(readdirSync(root)).toEqual(['mine.txt']);
});

it('an archive that is refused leaves nothing behind', async () => {
  const folders = new CodeFolders(root);
  const evil = await archiveOf([{ name: '../evil.py', content: Buffer.from('x'), executable: false }]);
  await expect(folders.create(1, evil)).rejects.toThrow(BundleError);
  expect(readdirSync(root)).toEqual([]);
  expect(readdirSync(parent)).toEqual(['code']);
});

it('a folder that all could look into is made private', () => {
  mkdirSync(root);
  chmodSync(root, 0o777);
  expect(new CodeFolders(root)).toBeDefined();
  expect(modeOf(root)).toBe(0o700);
});

it('a link that somebody put in its place is refused', () => {
  mkdirSync(join(parent, 'elsewhere'));
  symlinkSync('elsewhere', root);
  expect(() => new CodeFolders(root)).toThrow(/is not a folder of this user.*code_dir/);
});

it('what the users code has closed to its owner is removed, by this daemon and by the next', async () => {
  await ensureBuilt();
  // Root may do everything, so it is another user who tries.
  const other = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  if (other.uid !== undefined) chownSync(parent, other.uid, other.gid);
  const script = `
    import { chmodSync, mkdirSync, writeFileSync, readdirSync } from 'node:fs';
    const { CodeFolders } = await import('${repository}dist/worker/io/code_folders.js');
    const { gid, uid } = ${JSON.stringify(other)};
    if (uid !== undefined) { process.setgid(gid); process.setuid(uid); }
    const root = '${root}';
    const leave = (start) => {
      const closed = root + '/code-' + start + '/closed';
      mkdirSync(closed, { recursive: true });
      writeFileSync(closed + '/file', '');
      chmodSync(closed, 0o500);
      chmodSync(root + '/code-' + start, 0);
    };
    const folders = new CodeFolders(root);
    leave(1);
    await folders.remove(1);
    console.log(readdirSync(root).length);
    leave(2);
    new CodeFolders(root);
    console.log(readdirSync(root).length);`;
  expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })).toBe('0\n0\n');
});
