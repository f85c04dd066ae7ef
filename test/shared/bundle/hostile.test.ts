/** Archives that nobody's packer made. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BundleError } from '../../../shared/bundle/bundle_error.js';
import { archiveOf } from '../../../shared/bundle/pack.js';
import { bytesOf } from '../../../shared/bundle/stream_bytes.js';
import { unpackInto } from '../../../shared/bundle/unpack.js';

let outside = '';
let folder = '';
beforeEach(() => {
  outside = mkdtempSync(join(tmpdir(), 'lockstep-hostile-'));
  folder = join(outside, 'a/b/inside');
  mkdirSync(folder, { recursive: true });
});
afterEach(() => rmSync(outside, { recursive: true }));

async function tarOf(...entries: readonly (readonly [Headers, string?])[]): Promise<Buffer> {
  const tar = pack();
  for (const [header, content = ''] of entries) tar.entry({ ...header }, content);
  tar.finalize();
  return bytesOf(tar);
}

type Headers = Partial<Header> & Pick<Header, 'name'>;

const good: readonly [Headers, string] = [{ name: 'good.py' }, 'x'];

async function refusal(archive: Uint8Array): Promise<string> {
  const error: unknown = await unpackInto(folder, archive).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BundleError);
  // Nothing inside, and nothing beside it.
  expect(readdirSync(outside, { recursive: true })).toEqual(['a', 'a/b', 'a/b/inside']);
  return String(error);
}

describe('nothing is written of an archive with', () => {
  it.each<[string, Headers, RegExp]>([
    ['a name that leads out', { name: '../../evil.py' }, /"\.\.\/\.\.\/evil\.py" leads out of the folder/],
    ['one that leads out from below', { name: 'a/../../evil.py' }, /"a\/\.\.\/\.\.\/evil\.py" leads out/],
    ['an absolute name', { name: '/tmp/evil.py' }, /"\/tmp\/evil\.py" has an absolute name/],
    ['an empty part in a name', { name: 'a//evil.py' }, /"a\/\/evil\.py" has an empty part/],
    ['a name of this folder', { name: './evil.py' }, /has an empty part, or "\."/],
    ['a control character', { name: 'a\u001b[2J' }, /"a\\u001b\[2J" has control characters/],
    ['a symbolic link', { name: 'evil', type: 'symlink', linkname: '/etc' }, /"evil" is a symlink/],
    ['a hard link', { name: 'evil', type: 'link', linkname: 'good.py' }, /"evil" is a link/],
    ['a device', { name: 'evil', type: 'block-device', devmajor: 8 }, /"evil" is a block-device/],
    ['a character device', { name: 'evil', type: 'character-device' }, /"evil" is a character-device/],
    ['a FIFO', { name: 'evil', type: 'fifo' }, /"evil" is a fifo/],
    ['a folder', { name: 'evil', type: 'directory' }, /"evil" is a directory/],
    ['a very long name', { name: 'x'.repeat(2000) }, /has a name of more than 1024 bytes/],
    ['a very deep folder', { name: 'x/'.repeat(40).concat('y') }, /lies more than 32 folders deep/],
  ])('%s', async (_, header, message) => {
    expect(await refusal(gzipSync(await tarOf(good, [header])))).toMatch(message);
  });

  it('a name twice', async () => {
    expect(await refusal(gzipSync(await tarOf(good, good)))).toMatch(/"good\.py" is in the archive twice/);
  });

  it('a file that is a folder as well', async () => {
    const under: readonly [Headers] = [{ name: 'good.py/evil.py' }];
    expect(await refusal(gzipSync(await tarOf(good, under)))).toMatch(/lies in "good\.py", which is a file/);
    expect(await refusal(gzipSync(await tarOf(under, good)))).toMatch(/"good\.py" is a file, and a folder as well/);
  });

  it('too many files', async () => {
    const many = Array.from({ length: 10_001 }, (_, i) => ({
      name: `f${i}`,
      content: Buffer.alloc(0),
      executable: false,
    }));
    expect(await refusal(await archiveOf(many))).toMatch(/"f10000" is one more than 10000 files/);
  });

  it('more content than may be, in many files or in one', async () => {
    const half = Buffer.alloc(33 * 1024 * 1024);
    const two = ['a', 'b'].map((name) => ({ name, content: half, executable: false }));
    expect(await refusal(await archiveOf(two))).toMatch(/"b" brings the archive to more than 64 MiB/);
  });

  it('a bomb: more than can be unpacked', async () => {
    const bomb = gzipSync(Buffer.alloc(200 * 1024 * 1024), { level: 1 });
    expect(bomb.length).toBeLessThan(1024 * 1024);
    expect(await refusal(bomb)).toMatch(/more than 64 MiB when unpacked/);
  });

  it('an end that is missing, wherever it was cut', async () => {
    const tar = await tarOf(good, [{ name: 'other.py' }, 'y'.repeat(3000)]);
    for (const length of [1, 100, 512, 700, 1600, 2500]) {
      expect(await refusal(gzipSync(tar.subarray(0, length)))).toMatch(/the archive is damaged/);
    }
    const zipped = gzipSync(tar);
    expect(await refusal(zipped.subarray(0, zipped.length - 9))).toMatch(/the archive is damaged/);
    expect(await refusal(zipped.subarray(0, 20))).toMatch(/the archive is damaged/);
  });

  it('a header that was changed', async () => {
    const tar = await tarOf(good);
    tar[0] = 0x62;
    expect(await refusal(gzipSync(tar))).toMatch(/the archive is damaged: Invalid tar header/);
  });

  it('a size that is a lie', async () => {
    const tar = await tarOf([{ name: 'evil.py' }, 'x']);
    tar.write('77777777777 ', 124, 'latin1');
    let sum = 8 * 32;
    for (let i = 0; i < 512; i++) if (i < 148 || i >= 156) sum += tar[i] ?? 0;
    tar.write(`${sum.toString(8).padStart(6, '0')} `, 148, 'latin1');
    expect(await refusal(gzipSync(tar))).toMatch(/"evil\.py" brings the archive to more than 64 MiB/);
  });

  it('no archive in it at all', async () => {
    expect(await refusal(Buffer.from('#!/bin/sh\n'))).toMatch(/the archive is damaged/);
    expect(await refusal(Buffer.alloc(0))).toMatch(/the archive is damaged/);
  });
});
